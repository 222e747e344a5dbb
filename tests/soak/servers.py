"""The servers that `scripts/services.sh start` has started: where they are, databases of a soak's own, and their deaths."""

import os
import signal
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


class Services:
    """The servers that were started for tests."""

    def __init__(self):
        self.env = dict(line.split("=", 1) for line in (ROOT / ".services/env").read_text().splitlines())
        self._pids = {}
        for line in (ROOT / ".services/pids").read_text().splitlines():
            name, pid = line.split()
            self._pids[name] = int(pid)

    @property
    def pids(self) -> dict[str, int]:
        return dict(self._pids)

    def new_database(self, soak: str) -> dict[str, str]:
        """A database of this soak's own; returns the settings of an instance on it."""
        owner, name = self.env["ISH_TEST_DATABASE_DIRECT_URL"], f"{soak}_{os.getpid()}"
        bin = subprocess.run([ROOT / "scripts/setup.sh", "postgres"], check=True, capture_output=True, text=True).stdout.strip()
        subprocess.run([f"{bin}/psql", "-Xq", owner, "-c", f"CREATE DATABASE {name}"], check=True)
        at = {setting: self.env[f"ISH_TEST_{setting}"].rsplit("/", 1)[0] + f"/{name}" for setting in ("DATABASE_URL", "DATABASE_DIRECT_URL")}
        return at | {"REDIS_URL": self.env["ISH_TEST_REDIS_URL"], "ISH_REDIS_PREFIX": f"{name}:", "ISH_OPENAI_MODELS": "mock"}

    def stop(self, name: str, number: signal.Signals) -> list[str]:
        """Ends a server; returns how it was started."""
        pid = self._pids[name]
        command = Path(f"/proc/{pid}/cmdline").read_bytes().decode().rstrip("\0").split("\0")
        os.kill(pid, number)
        while self.lives(name):
            time.sleep(0.02)
        return command

    def lives(self, name: str) -> bool:
        try:
            return "State:\tZ" not in Path(f"/proc/{self._pids[name]}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return False

    def start(self, name: str, command: list[str]) -> None:
        become = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"] if os.getuid() == 0 else []
        child = subprocess.Popen(become + command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")
        self._pids[name] = child.pid
        text = "".join(f"{name} {pid}\n" for name, pid in self._pids.items())
        (ROOT / ".services/pids").write_text(text)
