"""Owns what the tests share: the provider, the server, and a client for each test."""

import re
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol
from openai import AsyncOpenAI, OpenAI

from processes import PATIENCE_S, Ish, Provider

#: What a client sends to a server that wants no key; it must never reach a provider.
CLIENT_KEY = "sk-the-clients-own-secret"

#: The provider's model that answers the tests.
MODEL = "mock"


#: What failed at first and passed when it was run again, and how it had failed.
FLAKY: dict[str, str] = {}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--ish-bin", type=Path, required=True)
    parser.addoption("--provider-bin", type=Path, required=True)
    parser.addoption("--js-packages", type=Path, required=True)
    parser.addoption("--node", type=Path, required=True)
    parser.addoption("--openapi-cases", type=int, default=12, help="tries of each route by the description's fuzzer")
    parser.addoption("--openapi-phases", default="fuzzing,stateful", help="what it does; see `st run --help`")
    parser.addoption("--openapi-report", type=Path, help="where the fuzzer's report is to go")


def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool:
    """Runs a test, and once more if it fails. One that passes then is a defect to mend, not a reason to lose a whole run."""
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    reports = runtestprotocol(item, nextitem=nextitem, log=False)
    failed = [report for report in reports if report.failed]
    if failed:
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
        if not any(report.failed for report in reports):
            FLAKY[item.nodeid] = failed[0].longreprtext
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def pytest_unconfigure(config: pytest.Config) -> None:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter:
        for report in reporter.stats.get("skipped", []):
            print(f"!!! SKIPPED {report.nodeid}: {report.longrepr[2]}")
        for name, how in FLAKY.items():
            print(f"!!! FLAKY {name} passed the second time; at first:\n{how}")
        count = {word: len(reporter.stats.get(word, [])) for word in ("passed", "failed", "error")}
        print(f"{count['passed']} passed, {count['failed'] + count['error']} failed, {len(FLAKY)} flaky")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def provider(request: pytest.FixtureRequest) -> Iterator[Provider]:
    provider = Provider(request.config.getoption("--provider-bin"))
    yield provider
    provider.stop()


@pytest.fixture(scope="session")
def ish_bin(request: pytest.FixtureRequest) -> Path:
    return request.config.getoption("--ish-bin")


@pytest.fixture(scope="session")
def ish(ish_bin: Path, provider: Provider) -> Iterator[Ish]:
    """A server in local mode: no key needed. What it asks has a price, so that every stream tells its cost."""
    with tempfile.NamedTemporaryFile("w", prefix="ish-prices-", suffix=".toml") as prices:
        prices.write(f"[{MODEL}]\ninput = 1.0\noutput = 10.0\n")
        prices.flush()
        server = Ish(ish_bin, provider.base_url, more={"ISH_PRICES_FILE": prices.name})
    yield server
    server.stop()


@pytest.fixture
def room(request: pytest.FixtureRequest) -> dict[str, str]:
    """Headers that give each test a cache of its own, so that no test is answered from another one's."""
    return {"x-ish-cache-namespace": re.sub(r"\W", "-", request.node.name)[:100]}


@pytest.fixture
def client(ish: Ish, room: dict[str, str]) -> Iterator[OpenAI]:
    """The client as users make it, but for the retries: a test that wants them says so."""
    with OpenAI(
        base_url=ish.base_url, api_key=CLIENT_KEY, default_headers=room, max_retries=0, timeout=PATIENCE_S
    ) as client:
        yield client


@pytest.fixture
async def async_client(ish: Ish, room: dict[str, str]) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(
        base_url=ish.base_url, api_key=CLIENT_KEY, default_headers=room, max_retries=0, timeout=PATIENCE_S
    ) as client:
        yield client


@pytest.fixture
def direct(provider: Provider) -> Iterator[OpenAI]:
    """A client of the provider itself: what ish passes through must equal what this one gets."""
    with OpenAI(base_url=provider.base_url, api_key=CLIENT_KEY, max_retries=0, timeout=PATIENCE_S) as client:
        yield client


@pytest.fixture
def prompt() -> str:
    """A question that nobody asked before, by which its upstream calls are found in the provider's log."""
    return f"What does the word {uuid.uuid4().hex} mean in the old manuscript?"
