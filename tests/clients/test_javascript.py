"""Clients of JavaScript under Node, one case at a time: OpenAI's own (js/cases.mjs) and the AI SDK (js/ai.mjs)."""

import subprocess
from pathlib import Path

import pytest

from processes import PATIENCE_S, Ish, Provider

JS = Path(__file__).parent / "js"


def run(request: pytest.FixtureRequest, ish: Ish, provider: Provider, script: str, case: str) -> None:
    node, packages = request.config.getoption("--node"), request.config.getoption("--js-packages")
    command = [node, JS / script, packages, ish.base_url, provider.url, case]
    done = subprocess.run(command, capture_output=True, text=True, timeout=2 * PATIENCE_S)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "case",
    [
        "plain",
        "streamed",
        "tools",
        "cached",
        "embeddings",
        "errors",
        "brokenStream",
        "retried",
        "cancelledStream",
        "cancelledPlain",
    ],
)
def test_openai(request: pytest.FixtureRequest, ish: Ish, provider: Provider, case: str):
    run(request, ish, provider, "cases.mjs", case)


@pytest.mark.parametrize(
    "case",
    [
        "plain",
        "streamed",
        "tools",
        "toolsStreamed",
        "errors",
        "brokenStream",
        "retried",
        "cancelledStream",
        "cancelledPlain",
    ],
)
def test_ai_sdk(request: pytest.FixtureRequest, ish: Ish, provider: Provider, case: str):
    run(request, ish, provider, "ai.mjs", case)
