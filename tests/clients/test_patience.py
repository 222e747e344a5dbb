"""A client that is refused waits as long as it was told, and is served then: by the provider's clock, or its own.

Only lower bounds are asked for: a busy machine makes a wait longer, and none of them shorter.
"""

import json
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import anthropic
import httpx
import openai
import pytest

from conftest import CLIENT_KEY, MODEL
from processes import PATIENCE_S, Ish, Provider
from talk import ask

JS = Path(__file__).parent / "js"

#: Milliseconds by which a timer of Node may ring early.
GRAIN_MS = 2

#: Seconds that the provider asks for; the server shall pass that on and wait for nothing itself.
ASKED_S = 2


@pytest.fixture(scope="module")
def passing(ish_bin: Path, provider: Provider) -> Iterator[Ish]:
    """A server that asks a provider once."""
    server = Ish(ish_bin, provider.base_url, more={"ISH_MAX_RETRIES": "0"})
    yield server
    server.stop()


@pytest.fixture
def limited(ish_bin: Path, provider: Provider) -> Iterator[Ish]:
    """A server that takes a request each two seconds."""
    server = Ish(ish_bin, provider.base_url, more={"ISH_REQUESTS_PER_MINUTE": "30", "ISH_REQUEST_BURST": "1"})
    yield server
    server.stop()


class Diary:
    """When each request went out and each reply came, of one client, by this process's clock."""

    def __init__(self):
        self.sent, self.refused = [], []
        self.hooks = {"request": [lambda _: self.sent.append(time.monotonic())], "response": [self._heard]}

    def _heard(self, response: httpx.Response) -> None:
        if response.status_code == 429:
            self.refused.append((time.monotonic(), response.headers))


def of_openai(server: Ish, diary: Diary) -> Callable[[str], str]:
    http = openai.DefaultHttpxClient(event_hooks=diary.hooks)
    client = openai.OpenAI(
        base_url=server.base_url, api_key=CLIENT_KEY, max_retries=1, timeout=PATIENCE_S, http_client=http
    )
    return lambda prompt: client.chat.completions.create(model=MODEL, messages=ask(prompt)).choices[0].message.content


def of_anthropic(server: Ish, diary: Diary) -> Callable[[str], str]:
    http = anthropic.DefaultHttpxClient(event_hooks=diary.hooks)
    client = anthropic.Anthropic(
        base_url=server.base_url.removesuffix("/v1"),
        api_key=CLIENT_KEY,
        max_retries=1,
        timeout=PATIENCE_S,
        http_client=http,
    )
    return lambda prompt: client.messages.create(model=MODEL, max_tokens=50, messages=ask(prompt)).content[0].text


CLIENTS = {"openai": of_openai, "anthropic": of_anthropic}


@pytest.mark.parametrize("name", CLIENTS)
def test_a_keys_rate(limited: Ish, provider: Provider, prompt: str, name: str):
    diary = Diary()
    say = CLIENTS[name](limited, diary)
    # Another question each time, since a cached answer would not show in the provider's log.
    first, second = f"{prompt} First?", f"{prompt} Second?"
    assert say(first) and say(second)
    (told_at, headers), = diary.refused
    wait_s = int(headers["retry-after-ms"]) / 1000
    assert 0 < wait_s <= int(headers["retry-after"])
    assert diary.sent[-1] - told_at >= wait_s
    assert_refused_once(limited)
    assert provider.only_call(second)["arrived_ms"] > provider.only_call(first)["arrived_ms"]


@pytest.mark.parametrize("name", CLIENTS)
def test_a_providers_refusal(passing: Ish, provider: Provider, prompt: str, name: str):
    diary = Diary()
    provider.plan_next(f"[[fault=rate_limit retry_after={ASKED_S}]]")
    assert CLIENTS[name](passing, diary)(prompt)
    (_, headers), = diary.refused
    assert headers["retry-after"] == str(ASKED_S)
    assert_waited(provider, prompt)


@pytest.mark.parametrize("case", ["ownRate", "passedOn"])
def test_the_ai_sdk(request: pytest.FixtureRequest, provider: Provider, prompt: str, case: str):
    server = request.getfixturevalue("limited" if case == "ownRate" else "passing")
    if case == "passedOn":
        provider.plan_next(f"[[fault=rate_limit retry_after={ASKED_S}]]")
    options = request.config.option
    command = [options.node, JS / "patience.mjs", options.js_packages, server.base_url, prompt, case]
    done = subprocess.run(command, capture_output=True, text=True, timeout=2 * PATIENCE_S)
    assert done.returncode == 0, done.stderr
    diary = json.loads(done.stdout)
    (refused,) = diary["refused"]
    assert diary["sent"][-1] - refused["at"] >= refused["wait"] - GRAIN_MS
    if case == "ownRate":
        assert_refused_once(server)
    else:
        assert refused["wait"] == 1000 * ASKED_S
        assert_waited(provider, prompt)


def assert_refused_once(server: Ish) -> None:
    """The server has refused one request: who came back came no earlier than it was told."""
    address = server.base_url.removesuffix("/v1") + "/metrics"
    with urllib.request.urlopen(address, timeout=PATIENCE_S) as reply:
        assert b'ish_limits_refused_total{reason="requests"} 1\n' in reply.read()


def assert_waited(provider: Provider, prompt: str) -> None:
    """By the provider's clock the second call came so long after the first one had been refused."""
    first, second = provider.calls(prompt)
    assert (first["status"], second["status"]) == (429, 200)
    assert second["arrived_ms"] - first["ended_ms"] >= 1000 * ASKED_S - GRAIN_MS
