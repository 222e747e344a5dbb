"""Three instances on Postgres behind PgBouncer, with Redis, behind nginx with the project's files, under clients that ask over the
socket and over HTTP. Each instance in turn gets SIGTERM, is awaited, started again and awaited ready, round after round. No send may
fail: each is acknowledged in the end and answered once, no request over HTTP is refused or cut, no delta is missing or doubled.

Needs `scripts/services.sh start`, and shares its servers with whoever uses them.

Usage: rolling.py --ish-bin PATH --provider-bin PATH [--rounds N] [--sockets N] [--https N] [--report FOLDER]
"""

import argparse
import datetime
import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path

from asking import Load, judge
from servers import ROOT, Services

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "clients"))

from nginx import KEY, Nginx  # noqa: E402
from processes import Program, Provider, environment, wait_until  # noqa: E402

INSTANCES = ["a", "b", "c"]
#: What a drain may take at most (`server.drain_timeout`).
DRAIN_S = 20
#: How long a busy machine takes to connect decides nothing here; tests/it does the same.
PATIENT = {"ISH_DATABASE_ACQUIRE_TIMEOUT": "30", "ISH_REDIS_TIMEOUT": "5"}
#: How long all three are left in peace between two restarts.
PEACE_S = 1.0


class Instance:
    """One of the three: the same name and address, start after start."""

    def __init__(self, program: Path, name: str, env: dict[str, str]):
        with closing(socket.create_server(("127.0.0.1", 0))) as free:
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self.program, self.name = program, name
        self.env = env | {"INSTANCE_ID": name, "ISH_LISTEN": self.address, "ISH_DRAIN_TIMEOUT": str(DRAIN_S)}
        self.running: Program | None = None

    def start(self) -> None:
        self.running = Program([self.program, "serve"], "page", self.env)
        wait_until(self.is_ready, lambda: f"{self.name} is ready:\n{self.running.output()}")

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.address}/readyz", timeout=5) as reply:
                return reply.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def messages(self, conversation: str) -> list[dict]:
        url = f"http://{self.address}/api/sessions/{conversation}/messages"
        request = urllib.request.Request(url, headers={"authorization": f"Bearer {KEY}"})
        with urllib.request.urlopen(request, timeout=30) as reply:
            return json.loads(reply.read())["data"]

    def drain(self) -> tuple[float, int]:
        """SIGTERM, and the end; how long that took, and the exit status."""
        begun = time.monotonic()
        status = self.running.ends(signal.SIGTERM)
        return round(time.monotonic() - begun, 3), status


def restarts(instances: list[Instance], rounds: int) -> list[dict]:
    told = []
    for number in range(rounds):
        for instance in instances:
            time.sleep(PEACE_S)
            took, status = instance.drain()
            begun = time.monotonic()
            instance.start()
            told.append({"round": number, "instance": instance.name, "drain_s": took, "exit": status, "start_s": round(time.monotonic() - begun, 3)})
            print(json.dumps(told[-1]), file=sys.stderr, flush=True)
    time.sleep(PEACE_S)
    return told


def play(options, folder: Path) -> dict:
    provider, services = Provider(options.provider_bin), Services()
    (folder / "admin.key").write_text(KEY)
    keys = {"ISH_ADMIN_KEY_FILE": str(folder / "admin.key"), "ISH_TRUSTED_PROXIES": "127.0.0.1"}
    env = services.new_database("rolling") | keys | PATIENT
    instances = [Instance(options.ish_bin, name, environment(folder / name, provider.base_url) | env) for name in INSTANCES]
    program = subprocess.run([ROOT / "scripts/setup.sh", "nginx"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    nginx = Nginx(program, folder / "nginx", [instance.address for instance in instances])
    try:
        for instance in instances:
            instance.start()
        nginx.start()
        load = Load(nginx.url, KEY, options.sockets, options.https)
        begun = time.monotonic()
        try:
            each = restarts(instances, options.rounds)
        finally:
            told = load.end()
        lasted = time.monotonic() - begun
        faults = judge(told, provider, instances[0].messages)
    finally:
        nginx.stop()
        for program in [*(instance.running for instance in instances if instance.running), provider]:
            program.stop()
    drains = sorted(one["drain_s"] for one in each)
    faults += [f"a drain too long, or an end in disorder: {one}" for one in each if one["drain_s"] > DRAIN_S or one["exit"] != 0]
    by_kind = {kind: sum(sent.kind == kind for sent in told.sent) for kind in sorted({sent.kind for sent in told.sent})}
    return {
        "rounds": options.rounds,
        "restarts": len(each),
        "seconds": round(lasted),
        "clients": {"sockets": options.sockets, "http": options.https},
        "questions": len(told.sent),
        "questions_by_kind": by_kind,
        "failed": sum(sent.text is None for sent in told.sent),
        "counts": dict(sorted(told.counts.items())),
        "drain_s": {"least": drains[0], "median": drains[len(drains) // 2], "most": drains[-1], "allowed": DRAIN_S},
        "faults": faults[:50],
        "faults_in_all": len(faults),
    }


def main() -> int:
    options = argparse.ArgumentParser()
    options.add_argument("--ish-bin", type=Path, required=True)
    options.add_argument("--provider-bin", type=Path, required=True)
    options.add_argument("--rounds", type=int, default=10)
    options.add_argument("--sockets", type=int, default=12)
    options.add_argument("--https", type=int, default=12)
    options.add_argument("--report", type=Path)
    options = options.parse_args()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT, check=False).stdout.strip()
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    with tempfile.TemporaryDirectory() as folder:
        told = play(options, Path(folder))
    report = {"what": "rolling restarts of three instances behind nginx, under load", "date": date, "commit": commit} | told
    text = json.dumps(report, indent=2)
    print(text)
    if options.report:
        (options.report / f"rolling-{date[:10]}.json").write_text(text + "\n")
    return int(bool(report["faults_in_all"]))


if __name__ == "__main__":
    sys.exit(main())
