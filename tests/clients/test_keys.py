"""A server with keys: nobody is answered without one, and each tenant has a cache of its own."""

import json
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from openai import OpenAI

from conftest import MODEL
from processes import PATIENCE_S, PROVIDER_KEY, Ish, Provider, environment
from talk import ask


class Keyed:
    """A server whose first key was made before it started."""

    def __init__(self, ish_bin: Path, folder: Path, provider: Provider):
        self._bin, self._env = ish_bin, environment(folder, provider.base_url)
        self.key = self.new_key("first")
        self.ish = Ish(ish_bin, provider.base_url, folder)

    def new_key(self, name: str, *more: str) -> str:
        return self.run("keys", "new", name, *more).strip()

    def run(self, *words: str) -> str:
        done = subprocess.run(
            [self._bin, *words], env=self._env, capture_output=True, text=True, timeout=PATIENCE_S, check=True
        )
        return done.stdout

    def client(self, key: str) -> OpenAI:
        return OpenAI(base_url=self.ish.base_url, api_key=key, max_retries=2, timeout=PATIENCE_S)


@pytest.fixture(scope="module")
def keyed(ish_bin: Path, provider: Provider) -> Iterator[Keyed]:
    with tempfile.TemporaryDirectory(prefix="ish-clients-") as folder:
        keyed = Keyed(ish_bin, Path(folder), provider)
        yield keyed
        keyed.ish.stop()


@pytest.mark.parametrize("key", ["sk-wrong", "ish_0000000000000000000000000000000000000000"])
def test_a_wrong_key_is_refused(keyed: Keyed, provider: Provider, prompt: str, key: str):
    client = keyed.client(key)
    calls = [
        lambda: client.models.list(),
        lambda: client.models.retrieve(MODEL),
        lambda: client.embeddings.create(model="all-minilm-l6-v2", input="hello"),
        lambda: client.chat.completions.create(model=MODEL, messages=ask(prompt)),
        lambda: client.chat.completions.create(model=MODEL, messages=ask(prompt), stream=True),
    ]
    for call in calls:
        with pytest.raises(openai.AuthenticationError) as caught:
            call()
        assert caught.value.code == "invalid_api_key" and caught.value.request_id
        assert key not in str(caught.value.body)
    assert provider.calls(prompt) == []


def test_no_key_is_refused(keyed: Keyed):
    with pytest.raises(openai.AuthenticationError) as caught:
        keyed.client("x").models.list(extra_headers={"Authorization": openai.Omit()})
    assert caught.value.code == "invalid_api_key"
    assert "keys new" in caught.value.message


def test_a_key_works_and_stays_here(keyed: Keyed, provider: Provider, prompt: str):
    client = keyed.client(keyed.key)
    assert MODEL in [model.id for model in client.models.list()]
    reply = client.chat.completions.create(model=MODEL, messages=ask(prompt))
    assert reply.choices[0].message.content
    assert provider.only_call(prompt)["authorization"] == f"Bearer {PROVIDER_KEY}"


def test_a_key_made_while_the_server_runs_until_it_is_revoked(keyed: Keyed):
    key = keyed.new_key("later")
    assert keyed.client(key).models.list().data
    listed = [json.loads(line) for line in keyed.run("keys", "list", "--json").splitlines()]
    identifiers = {row["name"]: row["id"] for row in listed}
    keyed.run("keys", "revoke", identifiers["later"])
    with pytest.raises(openai.AuthenticationError):
        keyed.client(key).models.list()


def test_limits_are_changed_while_the_server_runs(keyed: Keyed, prompt: str):
    key = keyed.new_key("bounded", "--requests-per-minute", "1")
    listed = [json.loads(line) for line in keyed.run("keys", "list", "--json").splitlines()]
    (identifier,) = [row["id"] for row in listed if row["name"] == "bounded"]

    def create() -> str:
        client = keyed.client(key).with_options(max_retries=0)
        return client.chat.completions.create(model=MODEL, messages=ask(prompt)).choices[0].message.content

    assert create()
    with pytest.raises(openai.RateLimitError):
        create()
    assert keyed.run("keys", "set-limits", identifier, "--requests-per-minute", "none") == f"changed {identifier}\n"
    assert create() and create()
    words = ["--budget-usd", "2.5", "--budget-period", "month", "--json"]
    changed = json.loads(keyed.run("keys", "set-limits", identifier, *words))
    assert (changed["budget_usd"], changed["budget_period"], changed["requests_per_minute"]) == (2.5, "month", None)
    # A cached answer costs nothing; anything else needs a price, which no model here has.
    assert create()
    with pytest.raises(openai.PermissionDeniedError) as caught:
        keyed.client(key).chat.completions.create(
            model=MODEL, messages=ask(prompt), extra_body={"cache": {"mode": "off"}}
        )
    assert caught.value.code == "model_without_price"
    (budgets,) = [line for line in keyed.run("doctor").splitlines() if line[6:].startswith("budgets")]
    assert budgets.startswith("warn") and "1 key(s)" in budgets and f"openai/{MODEL}" in budgets
    with pytest.raises(subprocess.CalledProcessError):
        keyed.run("keys", "set-limits", identifier)


def test_tenants_do_not_share_answers(keyed: Keyed, provider: Provider, prompt: str):
    red, blue = (keyed.client(keyed.new_key(name, "--tenant", name)) for name in ("red", "blue"))

    def word(client: OpenAI) -> str:
        raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=ask(prompt))
        return raw.headers["x-ish-cache"]

    assert [word(red), word(red), word(blue), word(blue)] == ["MISS", "HIT", "MISS", "HIT"]
    assert len(provider.calls(prompt)) == 2
