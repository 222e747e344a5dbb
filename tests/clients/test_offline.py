"""After the build nothing is fetched: the server starts, answers and matches by meaning where there is no network at all."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import processes

#: Ways into a new network namespace: as root, and as anybody where the system allows that.
WAYS = (["unshare", "--net"], ["unshare", "--user", "--map-root-user", "--net"])


def way_in() -> list[str] | None:
    """The first way that this machine permits."""
    for way in WAYS:
        try:
            permitted = subprocess.run([*way, "true"], capture_output=True).returncode == 0
        except FileNotFoundError:
            return None
        if permitted:
            return way
    return None


def test_two_questions_without_a_network(ish_bin: Path):
    way = way_in()
    if way is None:
        pytest.skip("network namespaces are not permitted here: NOT SHOWN is that ish needs no network after the build")
    script = Path(__file__).with_name("offline.py")
    run = subprocess.run(
        [*way, sys.executable, script, ish_bin], capture_output=True, text=True, timeout=3 * processes.PATIENCE_S
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert found["interfaces"] == ["lo"], "there is a network after all"
    first, second = found["answers"]
    assert first["outcome"] == "MISS"
    assert first["text"]
    assert second == {"outcome": "SEMANTIC_HIT", "text": first["text"]}
