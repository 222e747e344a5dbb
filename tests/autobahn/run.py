"""Runs Autobahn's WebSocket suite (Python 2) against `websocket_echo`, and judges its report: what FAILED must stand in
DECLARED.

Usage: run.py --python2 PATH --site FOLDER --echo-bin PATH [--cases '*'] [--report FOLDER]
`--site` holds the package `autobahntestsuite` (scripts/autobahn.sh puts it there).
"""

import argparse
import datetime
import json
import platform
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent

#: Cases that may fail, each with its reason.
DECLARED: dict[str, str] = {}

#: permessage-deflate: never negotiated here, so the suite itself answers UNIMPLEMENTED.
COMPRESSION = ("12.", "13.")

#: The largest message of the cases 9.*; the server's own default is smaller, and then closes with 1009 as it should.
LARGEST_BYTES = 16 * 1024 * 1024


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--python2", type=Path, required=True)
    parser.add_argument("--site", type=Path, required=True)
    parser.add_argument("--echo-bin", type=Path, required=True)
    parser.add_argument("--cases", default="*")
    parser.add_argument("--report", type=Path)
    options = parser.parse_args()
    echo = subprocess.Popen([options.echo_bin, str(LARGEST_BYTES)], stdout=subprocess.PIPE, text=True)
    try:
        url = echo.stdout.readline().split()[-1]
        with tempfile.TemporaryDirectory() as folder:
            results = run(options, url, Path(folder))
    finally:
        echo.kill()
        echo.wait()
    return judge(options, results, versions(options))


def run(options, url: str, folder: Path) -> dict:
    spec = {
        "outdir": str(folder),
        "servers": [{"agent": "ish", "url": url}],
        "cases": [options.cases],
        "exclude-cases": [],
        "exclude-agent-cases": {},
    }
    (folder / "spec.json").write_text(json.dumps(spec))
    # As a site folder, so that packages which share a namespace (zope.interface) are found in it.
    start = f"import site; site.addsitedir({str(options.site)!r}); from autobahntestsuite.wstest import run; run()"
    command = [options.python2, "-c", start, "-m", "fuzzingclient", "-s", str(folder / "spec.json")]
    with (folder / "log").open("w") as log:
        subprocess.run(command, stdout=log, stderr=log, check=False)
    index = folder / "index.json"
    if not index.exists():
        raise SystemExit(f"the suite did not run:\n{(folder / 'log').read_text()[-2000:]}")
    return json.loads(index.read_text())["ish"]


def versions(options) -> dict:
    """Of the suite, of what runs it, and of what it talks to."""
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())
    ours = {package["name"]: package["version"] for package in lock["package"]}
    [suite] = options.site.glob("autobahntestsuite-*.dist-info")
    python2 = subprocess.run([options.python2, "--version"], capture_output=True, text=True, check=True)
    return {
        "autobahntestsuite": suite.name.split("-")[1].removesuffix(".dist"),
        "python2": (python2.stdout + python2.stderr).split()[-1],
        **{name: ours[name] for name in ("axum", "tungstenite", "ish")},
    }


def judge(options, results: dict, used: dict) -> int:
    now = datetime.datetime.now(datetime.UTC)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT, check=False)
    failed = sorted(case for case, result in results.items() if "FAILED" in (result["behavior"], result["behaviorClose"]))
    unexpected = [case for case in failed if case not in DECLARED]
    strangers = [case for case, result in results.items()
                 if result["behavior"] == "UNIMPLEMENTED" and not case.startswith(COMPRESSION)]
    verdict = {
        "what": "Autobahn's WebSocket suite, fuzzing client, against an echo over the settings of /ws",
        "date": now.isoformat(timespec="seconds"),
        "commit": commit.stdout.strip(),
        "system": platform.platform(),
        "versions": used,
        "cases": len(results),
        "behavior": Counter(result["behavior"] for result in results.values()),
        "close": Counter(result["behaviorClose"] for result in results.values()),
        "failed": failed,
        "declared": DECLARED,
        "unimplemented_but_compression": strangers,
    }
    print(json.dumps(verdict, indent=1))
    for case in failed:
        print(case, results[case])
    if options.report:
        options.report.mkdir(parents=True, exist_ok=True)
        (options.report / f"autobahn-{now.date()}.json").write_text(json.dumps(verdict, indent=1) + "\n")
    return 1 if unexpected or strangers else 0


if __name__ == "__main__":
    sys.exit(main())
