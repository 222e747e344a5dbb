"""Shoots at the task queue: processes that run errands (`examples/errands.rs`) are killed with -9 again and again, whoever enqueues
as well; now and then Postgres ends at once (`immediate`), PgBouncer or Redis is killed. When all is over the queue must be empty
within a minute, and `check_tasks.py` compares what the processes wrote down with the table. On SQLite it is one process that enqueues
and works and is killed; in odd rounds it crashes between a commit and its acknowledgement as well.

Can be stopped and run again: it goes on with the round that was not finished, as long as the servers are the same.

Needs `scripts/services.sh start` unless only SQLite is played, and uses its servers: nothing else may.

Usage: tasks.py --errands-bin PATH [--store postgres | sqlite] [--rounds 120] [--errands 100] [--workers 3] [--seed N] [--state FOLDER]
               [--report FOLDER]
"""

import argparse
import datetime
import json
import os
import platform
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

from servers import ROOT, Services

HERE = Path(__file__).resolve().parent
#: A lease ends soon, so that what is lost comes back while the soak looks. Errands of three seconds outlast it.
QUICK = {"ISH_TASK_LEASE": "2", "ISH_TASK_HEARTBEAT": "0.4", "DB_MAX_CONNECTIONS": "8", "ISH_LOG": "warn"}
#: How soon after the last fault all must be done.
EMPTY_S = 60
#: Which server is struck in which of ten rounds, and how.
STRUCK = {2: ("postgres", signal.SIGQUIT), 5: ("pgbouncer", signal.SIGKILL), 8: ("redis-server", signal.SIGKILL)}


class Crew:
    """Processes that run errands, each started again when it has died, until `stop`."""

    def __init__(self, command: list, env: dict, log: Path, size: int):
        self._command, self._env, self._log = command, env, log
        self._lock, self._over = threading.Lock(), threading.Event()
        #: How they ended, by exit status; poison aborts.
        self.deaths = Counter()
        #: What those said last who ended by themselves.
        self.last_words = []
        self._crew = [self._started() for _ in range(size)]
        self._reviver = threading.Thread(target=self._revive)
        self._reviver.start()

    def _started(self) -> subprocess.Popen:
        return started(self._command, self._env, self._log)

    def _revive(self) -> None:
        while not self._over.wait(0.02):
            with self._lock:
                for place, worker in enumerate(self._crew):
                    if worker.poll() is not None:
                        self.deaths[worker.returncode] += 1
                        if worker.returncode not in (-signal.SIGKILL, -signal.SIGABRT):
                            self.last_words += self._log.read_text().splitlines()[-5:]
                        self._crew[place] = self._started()

    def strike(self, which: int) -> None:
        with self._lock:
            self._crew[which % len(self._crew)].kill()

    def stop(self) -> None:
        self._over.set()
        self._reviver.join()
        for worker in self._crew:
            worker.kill()
            worker.wait()


def told_of(crew: Crew) -> dict:
    deaths = {"worker_deaths_by_exit_status": {str(status): times for status, times in crew.deaths.items()}}
    return deaths | ({"last_words": crew.last_words} if crew.last_words else {})


def started(command: list, env: dict, log: Path) -> subprocess.Popen:
    with log.open("a") as output:
        return subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=output)


class OnPostgres:
    """Workers and whoever enqueues are processes of their own, on a database of this soak's own."""

    def __init__(self, options, kept: dict):
        self._services, self._folder, self._bin = Services(), options.state / "notes", options.errands_bin
        # Where the servers are not those of the rounds before, so is nothing of what those left.
        if kept.get("servers") != self._services.env:
            kept.clear()
            fresh(self._folder)
            kept |= {"servers": self._services.env, "settings": self._services.new_database("tasks")}
        self._env = bare() | QUICK | kept["settings"]
        url = kept["settings"]["DATABASE_DIRECT_URL"].split("@")[1]
        psql = subprocess.run([ROOT / "scripts/setup.sh", "postgres"], check=True, capture_output=True, text=True).stdout.strip()
        # The server's own user, who is above its policies.
        self._psql = [f"{psql}/psql", "-XAtq", f"postgres://postgres@{url}", "-c"]
        self._log = options.state / "processes"
        # Makes the schema, before the processes compete for the connections.
        subprocess.run([self._bin, "--folder", self._folder], env=self._env, check=True)
        self._crew = Crew([self._bin, "--folder", self._folder, "--work"], self._env, self._log, options.workers)

    def play(self, number: int, numbers: int, chance: random.Random) -> dict:
        struck = Counter({"worker, kill -9": 1})
        enqueue = [self._bin, "--folder", self._folder, "--enqueue", str(numbers)]
        enqueuing = started(enqueue, self._env, self._log)
        if number % 2:
            time.sleep(chance.uniform(0.02, 0.3))
            # It may have ended already.
            enqueuing.kill()
            struck["enqueuing process, kill -9"] += enqueuing.wait() == -signal.SIGKILL
            enqueuing = started(enqueue, self._env, self._log)
        time.sleep(chance.uniform(0.05, 1.0))
        self._crew.strike(chance.randrange(100))
        if number % 10 in STRUCK:
            name, how = STRUCK[number % 10]
            self._strike(name, how, chance.uniform(0.0, 3.0))
            struck[f"{name}, {how.name}"] += 1
        if enqueuing.wait(timeout=120) != 0:
            raise SystemExit(f"whoever enqueues ended with {enqueuing.returncode}: {self._log}")
        return dict(struck)

    def last_faults(self) -> None:
        """All at once."""
        for worker in range(100):
            self._crew.strike(worker)
        for name, how in STRUCK.values():
            self._strike(name, how, 0.2)

    def _strike(self, name: str, how: signal.Signals, away_s: float) -> None:
        command = self._services.stop(name, how)
        if name == "redis-server":
            command = self._redis()
        time.sleep(away_s)
        self._services.start(name, command)
        # A Postgres that was ended at once may find what its processes have not yet let go.
        while not self._answers(name):
            time.sleep(0.1)
            if not self._services.lives(name):
                self._services.start(name, command)

    def _answers(self, name: str) -> bool:
        variable = {"postgres": "DATABASE_DIRECT_URL", "pgbouncer": "DATABASE_URL", "redis-server": "REDIS_URL"}[name]
        host, port = self._services.env[f"ISH_TEST_{variable}"].split("/")[2].split("@")[-1].split(":")
        try:
            socket.create_connection((host, int(port)), 1).close()
        except OSError:
            return False
        return self._services.lives(name) and (name != "postgres" or self._asked("SELECT 1") is not None)

    def _redis(self) -> list[str]:
        """How it was started; its process shows something else."""
        port = self._services.env["ISH_TEST_REDIS_URL"].split(":")[2].split("/")[0]
        data = (ROOT / ".services/data").read_text().strip()
        return ["redis-server", "--bind", "127.0.0.1", "--port", port, "--dir", data, "--save", "", "--appendonly", "no"]

    def _asked(self, statement: str) -> str | None:
        asked = subprocess.run([*self._psql, statement], capture_output=True, text=True, check=False)
        return asked.stdout if asked.returncode == 0 else None

    def open_tasks(self) -> int | None:
        left = self._asked("SELECT count(*) FROM tasks WHERE state IN ('available', 'running', 'retryable')")
        return left if left is None else int(left)

    def stop(self) -> None:
        self._crew.stop()

    def deaths(self) -> dict:
        return told_of(self._crew)

    def rows(self, path: Path) -> None:
        path.write_text(self._asked("SELECT row_to_json(tasks) FROM tasks"))

    def facts(self) -> dict:
        return {"store": f"Postgres {self._asked('SHOW server_version').strip()} through PgBouncer, with Redis"}


class OnSqlite:
    """One process that enqueues and works."""

    def __init__(self, options, kept: dict):
        self._folder, self._bin, self._log = options.state / "notes", options.errands_bin, options.state / "processes"
        if not kept:
            fresh(self._folder)
            kept["store"] = "sqlite"
        self._env, self._deaths = bare() | QUICK, Counter()
        self._running = None

    def _command(self, numbers: int) -> list:
        return [self._bin, "--folder", self._folder, "--work", "--enqueue", str(numbers)]

    def play(self, number: int, numbers: int, chance: random.Random) -> dict:
        self._numbers, struck = numbers, Counter()
        if number % 2:
            crash = {"FAILPOINTS": f"commit-before-ack={chance.randint(1, 40)}*off->return"}
            process = started(self._command(numbers), self._env | crash, self._log)
            try:
                process.wait(timeout=120)
            finally:
                process.kill()
            # Poison ends it so, too.
            if process.returncode != -signal.SIGABRT:
                raise SystemExit(f"{process.returncode} instead of a crash: it must be built with --features failpoints")
            struck["crash at a commit, or by poison"] += 1
        while not struck["kill -9"]:
            process = started(self._command(numbers), self._env, self._log)
            time.sleep(chance.uniform(0.1, 2.0))
            process.kill()
            how = {-signal.SIGKILL: "kill -9", -signal.SIGABRT: "poison"}.get(process.wait())
            if how is None:
                raise SystemExit(f"it ended by itself: {self._log}")
            struck[how] += 1
        return dict(struck)

    def last_faults(self) -> None:
        self._running = Crew(self._command(self._numbers), self._env, self._log, 1)

    def open_tasks(self) -> int | None:
        promised = len((self._folder / "promised").read_text().splitlines()) if (self._folder / "promised").exists() else 0
        if promised < self._numbers:
            return None
        with sqlite3.connect(f"file:{self._folder / 'ish.db'}?mode=ro", uri=True, timeout=10) as database:
            return database.execute("SELECT count(*) FROM tasks WHERE state IN ('available', 'running', 'retryable')").fetchone()[0]

    def stop(self) -> None:
        if self._running:
            self._running.stop()

    def deaths(self) -> dict:
        return told_of(self._running)

    def rows(self, path: Path) -> None:
        database = sqlite3.connect(f"file:{self._folder / 'ish.db'}?mode=ro", uri=True)
        database.row_factory = sqlite3.Row
        damage = [word for (word,) in database.execute("PRAGMA integrity_check") if word != "ok"]
        if damage:
            raise SystemExit(f"the file is damaged: {damage}")
        path.write_text("".join(json.dumps(dict(row)) + "\n" for row in database.execute("SELECT * FROM tasks NOT INDEXED")))

    def facts(self) -> dict:
        return {"store": "SQLite, synchronous=FULL"}


def bare() -> dict[str, str]:
    """The environment without an operator's settings."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}


def fresh(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def emptied(store) -> float | None:
    """How many seconds it takes until nothing waits or runs any more."""
    begun = time.monotonic()
    while time.monotonic() - begun < EMPTY_S:
        if store.open_tasks() == 0:
            return round(time.monotonic() - begun, 1)
        time.sleep(0.1)
    return None


def judged(store, state: Path) -> dict:
    store.rows(state / "rows.jsonl")
    command = [sys.executable, HERE / "check_tasks.py", state / "rows.jsonl", state / "notes"]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    if not checked.stdout:
        raise SystemExit(f"the judge failed:\n{checked.stderr}")
    return json.loads(checked.stdout)


def report(options, told: dict) -> None:
    now = datetime.datetime.now(datetime.UTC)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=HERE, check=False)
    head = {
        "what": "errands while the processes that run and enqueue them are killed, and the servers that they use",
        "date": now.isoformat(timespec="seconds"),
        "commit": commit.stdout.strip(),
        "machine": {"system": platform.platform(), "cpus": os.cpu_count()},
    }
    text = json.dumps(head | told, indent=1) + "\n"
    print(text)
    if options.report:
        options.report.mkdir(parents=True, exist_ok=True)
        (options.report / f"tasks-{options.store}-{now.date()}.json").write_text(text)


def main() -> int:
    options = argparse.ArgumentParser()
    options.add_argument("--errands-bin", type=Path, required=True)
    options.add_argument("--store", choices=["postgres", "sqlite"], default="postgres")
    options.add_argument("--rounds", type=int, default=120)
    options.add_argument("--errands", type=int, default=100)
    options.add_argument("--workers", type=int, default=3)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--state", type=Path, default=Path("target/soak-tasks"))
    options.add_argument("--report", type=Path)
    options = options.parse_args()
    options.state = (options.state / options.store).absolute()
    options.state.mkdir(parents=True, exist_ok=True)
    state = options.state / "rounds.json"
    kept, rounds = json.loads(state.read_text()) if state.exists() else ({}, [])
    before = dict(kept)
    store = (OnPostgres if options.store == "postgres" else OnSqlite)(options, kept)
    rounds = rounds if kept == before else []
    begun = time.monotonic()
    try:
        for number in range(len(rounds), options.rounds):
            chance = random.Random(options.seed * 1_000 + number)
            rounds.append(store.play(number, (number + 1) * options.errands, chance))
            state.write_text(json.dumps([kept, rounds]))
            print(f"round {number + 1} of {options.rounds}: {json.dumps(rounds[-1])}", flush=True)
        store.last_faults()
        empty_s = emptied(store)
    finally:
        store.stop()
    struck = sum((Counter(entry) for entry in rounds), Counter())
    verdict = judged(store, options.state)
    told = store.facts() | {"seed": options.seed, "rounds": len(rounds), "struck": struck}
    told |= store.deaths() | {"took_s": round(time.monotonic() - begun), "empty_after_the_last_fault_s": empty_s, "verdict": verdict}
    report(options, told)
    # The next run begins anew.
    shutil.rmtree(options.state)
    return 1 if verdict["faults"] or empty_s is None else 0


if __name__ == "__main__":
    sys.exit(main())
