"""The official JavaScript client under Node, one case of js/cases.mjs at a time."""

import subprocess
from pathlib import Path

import pytest

from processes import PATIENCE_S, Ish, Provider

CASES = Path(__file__).parent / "js" / "cases.mjs"


@pytest.mark.parametrize(
    "case",
    ["plain", "streamed", "cached", "embeddings", "errors", "brokenStream", "cancelledStream", "cancelledPlain"],
)
def test_javascript(request: pytest.FixtureRequest, ish: Ish, provider: Provider, case: str):
    packages = request.config.getoption("--js-packages")
    command = ["node", CASES, packages, ish.base_url, provider.url, case]
    done = subprocess.run(command, capture_output=True, text=True, timeout=2 * PATIENCE_S)
    assert done.returncode == 0, done.stderr
