"""Owns the two programs as child processes: starting, reading their address, stopping; and the provider's log."""

import json
import os
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Found = TypeVar("Found")

#: A deadline for things that take milliseconds; generous, since the machine may be busy.
PATIENCE_S = 30

#: The key that ish holds for the provider.
PROVIDER_KEY = "sk-test"


class Program:
    """A child process whose output is kept, and which says its address on a line that holds `marker`."""

    def __init__(self, command: list[str | Path], marker: str, env: dict[str, str] | None = None):
        self.command, self.lines = command, []
        self._announced = threading.Event()
        self._marker = marker
        self.url = ""
        self._child = subprocess.Popen(
            command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._announced.wait(PATIENCE_S) or not self.url:
            self.stop()
            raise RuntimeError(f"{command[0]} did not say where it listens:\n{self.output()}")

    def _read(self) -> None:
        for line in self._child.stdout:
            self.lines.append(line)
            if self._marker in line and not self.url:
                self.url = line.split()[-1]
                self._announced.set()
        # The end of the output is the end of the program: nobody shall wait for its address any longer.
        self._announced.set()

    @property
    def pid(self) -> int:
        return self._child.pid

    def output(self) -> str:
        return "".join(self.lines[-200:])

    def stop(self) -> None:
        self._child.kill()
        self._child.wait()
        self._reader.join()


class Provider(Program):
    """The OpenAI-compatible provider that misbehaves on request (`loadtest provider`)."""

    def __init__(self, binary: Path):
        super().__init__([binary, "provider", "--listen", "127.0.0.1:0"], "listening on")

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"

    def plan_next(self, directives: str) -> None:
        """The next chat request meets these directives, whatever its prompt says."""
        request = urllib.request.Request(f"{self.url}/_next", data=directives.encode(), method="POST")
        with urllib.request.urlopen(request, timeout=PATIENCE_S):
            pass

    def log(self) -> list[dict]:
        with urllib.request.urlopen(f"{self.url}/_log", timeout=PATIENCE_S) as reply:
            return json.load(reply)

    def calls(self, prompt: str | list) -> list[dict]:
        """The chat requests whose last message's content is `prompt`, oldest first; `request` is their body."""
        calls = [entry | {"request": json.loads(entry["body"])} for entry in self.log() if entry["route"] == "chat"]
        return [call for call in calls if call["request"]["messages"][-1]["content"] == prompt]

    def log_of(self, words: str) -> list[dict]:
        """The chat requests that hold these words anywhere, oldest first; `request` is their body."""
        entries = [entry for entry in self.log() if entry["route"] == "chat" and words in entry["body"]]
        return [entry | {"request": json.loads(entry["body"])} for entry in entries]

    def only_call(self, prompt: str | list) -> dict:
        calls = self.calls(prompt)
        assert len(calls) == 1, f"{len(calls)} upstream calls instead of one"
        return calls[0]

    def wait_for_call(self, prompt: str, outcome: str) -> dict:
        """Waits until the one call for `prompt` has this outcome: in_flight, completed, client_gone or broken."""

        def found() -> dict | None:
            return next((call for call in self.calls(prompt) if call["outcome"] == outcome), None)

        return wait_until(found, lambda: f"the call is {outcome}: {self.calls(prompt)}")


class Ish(Program):
    """A server with a data folder of its own, on a free port."""

    def __init__(
        self, binary: Path, provider_url: str | None, folder: Path | None = None, more: dict[str, str] | None = None
    ):
        self.binary = binary
        self._temporary = None if folder else tempfile.TemporaryDirectory(prefix="ish-clients-")
        self.folder = folder or Path(self._temporary.name)
        self.env = environment(self.folder, provider_url) | (more or {})
        super().__init__([binary, "serve"], "OpenAI URL", self.env)

    @property
    def base_url(self) -> str:
        return self.url

    def stop(self) -> None:
        super().stop()
        if self._temporary:
            self._temporary.cleanup()


def environment(folder: Path, provider_url: str | None) -> dict[str, str]:
    """This process's environment without anything that would change ish, and with the settings of the tests."""
    ours = ("ISH_", "OPENAI_", "ANTHROPIC_", "GEMINI_", "GOOGLE_GEMINI_", "OLLAMA_")
    env = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    # A look-up that waits too long for its embedding is a miss; on a busy machine that would decide tests.
    env |= {"ISH_LISTEN": "127.0.0.1:0", "ISH_DATA_DIR": str(folder), "ISH_EMBEDDING_WAIT": str(PATIENCE_S)}
    if provider_url:
        # A provider that fails on request, test after test, must be asked all the same.
        env |= {"OPENAI_BASE_URL": provider_url, "OPENAI_API_KEY": PROVIDER_KEY, "ISH_BREAKER_FAILURES": "1000000"}
    return env


def wait_until(found: Callable[[], Found | None], what: Callable[[], str]) -> Found:
    """Asks `found` until it gives something; fails after the deadline, saying `what` was awaited."""
    deadline = time.monotonic() + PATIENCE_S
    while not (value := found()):
        assert time.monotonic() < deadline, f"waited {PATIENCE_S} s until {what()}"
        time.sleep(0.01)
    return value
