"""The server against its own description: Schemathesis makes requests, right and wrong ones, from what `/openapi.json`
says and holds every reply to it. `--openapi-cases` says how often; the seed is fixed."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from processes import Ish, Provider, wait_until

CONFIG = Path(__file__).with_name("schemathesis.toml")

#: Fixed, so that a failure is found again.
SEED = 3


@pytest.fixture
def guarded(request: pytest.FixtureRequest, ish_bin: Path, tmp_path: Path) -> Iterator[Ish]:
    """A server that wants keys, with a provider whose log no other test reads."""
    key = tmp_path / "admin.key"
    key.write_text("ish_the_admin_key_of_this_test")
    provider = Provider(request.config.getoption("--provider-bin"))
    folder = tmp_path / "data"
    folder.mkdir()
    server = Ish(ish_bin, provider.base_url, folder, {"ISH_ADMIN_KEY_FILE": str(key)})
    yield server
    server.stop()
    provider.stop()


def test_the_server_is_as_it_describes_itself(request: pytest.FixtureRequest, guarded: Ish, tmp_path: Path):
    url = guarded.base_url.removesuffix("/v1")
    # The command line's own token, since a case that revokes the keys it finds must not end the run.
    # It is written once the server serves, which is after its greeting.
    lock = wait_until((guarded.folder / "ish.lock").read_text, lambda: "the lock file names the server")
    token = json.loads(lock)["token"]
    report = request.config.getoption("--openapi-report")
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", CONFIG, "run", f"{url}/openapi.json"]
    command += ["--header", f"Authorization: Bearer {token}", "--seed", str(SEED), "--request-timeout", "60"]
    command += ["--max-examples", str(request.config.getoption("--openapi-cases")), "--exclude-path", "/ws"]
    command += ["--phases", request.config.getoption("--openapi-phases"), "--continue-on-failure", "--no-color"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=3600)
    cases = re.search(r"(\d+) generated", done.stdout)
    assert cases, done.stdout + done.stderr
    if report:
        found = re.search(r"(\d+) found", done.stdout)
        figures = {"cases": int(cases[1]), "failures": int(found[1]) if found else 0, "exit": done.returncode}
        report.write_text(json.dumps(figures | {"seed": SEED, "summary": summary(done.stdout)}, indent=2) + "\n")
    assert done.returncode == 0, done.stdout
    assert int(cases[1]) >= 300


def summary(output: str) -> list[str]:
    """The lines behind the heading of the summary."""
    _, _, end = output.partition(" SUMMARY ")
    return [line.strip() for line in end.splitlines()[1:] if line.strip()]
