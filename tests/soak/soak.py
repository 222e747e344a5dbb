"""Kills the server, again and again, on one data folder: at random moments, and between a commit and its
acknowledgement. After each round everything is resumed or sent again, and `check.py` judges the whole history.

Can be stopped and run again: it goes on with the round that was not finished. The report goes to docs/reports/.

Usage: soak.py --ish-bin PATH --provider-bin PATH [--rounds 100] [--clients 200] [--judge-every 5] [--seed N]
               [--state FOLDER] [--report FOLDER]
"""

import argparse
import datetime
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from wire import Gone, History, Reader, Socket

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "clients"))

from processes import Program, Provider, environment  # noqa: E402

#: Sockets that resume and send again after a crash, and how many answers each waits for at once (a socket takes 64).
MENDERS, AT_ONCE = 8, 32
#: Long ones are checkpointed on the way.
TOKENS = [10, 40, 600]


class Server(Program):
    """`ish serve` on the soak's data folder."""

    def __init__(self, options, provider: Provider, crash_point: str | None = None):
        env = environment(options.state / "data", provider.base_url)
        env |= {"ISH_OPENAI_MODELS": "mock", "ISH_CACHE_SEMANTIC": "false", "ISH_DRAIN_TIMEOUT": "5"}
        if crash_point:
            env["FAILPOINTS"] = crash_point
        super().__init__([options.ish_bin, "serve"], "page", env)

    def signal(self, number: int) -> None:
        self._child.send_signal(number)

    def wait(self) -> int:
        code = self._child.wait(timeout=60)
        self._reader.join()
        return code


def ask_until_gone(url: str, history: History, name: str) -> None:
    """Asks; of three questions, two are answered side by side."""
    reader, waiting, number = Reader(), set(), 0
    try:
        socket = Socket(url)
        while True:
            number += 1
            prompt = f"What does {name}-{number} ask? [[tokens={TOKENS[number % 3]} each=1ms]]"
            history.note("sent", id=f"{name}-{number}", prompt=prompt)
            socket.send({"type": "send", "id": f"{name}-{number}", "content": prompt})
            while True:
                frame = socket.receive()
                if frame["type"] == "ack":
                    note_ack(history, frame)
                    waiting.add(frame["stream"])
                    if number % 3 == 0:
                        break
                elif reader.take(frame):
                    note_end(history, reader, frame)
                    waiting.discard(frame["stream"])
                    if not waiting:
                        break
    except Gone:
        for stream in waiting:
            history.note("cut", stream=stream, text=reader.texts.get(stream, ""))


def note_ack(history: History, frame: dict) -> None:
    facts = {name: frame[name] for name in ("id", "conversation", "message", "reply", "stream", "duplicate")}
    history.note("acknowledged", **facts)


def note_end(history: History, reader: Reader, frame: dict) -> None:
    facts = {"type": frame["type"], "code": frame.get("code"), "text": reader.texts.get(frame["stream"], "")}
    history.note("ended", stream=frame["stream"], **facts)


def reconcile(url: str, history: History, since: int) -> Counter:
    """Resumes what was acknowledged and has not ended; sends again what was not acknowledged. What lies before `since`
    was reconciled in an earlier round."""
    events = history.events(since)
    acknowledged = {event["id"]: event["stream"] for event in events if event["event"] == "acknowledged"}
    ended = {event["stream"] for event in events if event["event"] == "ended"}
    resumes = [
        {"type": "resume", "stream": stream, "epoch": 1, "after": 0}
        for stream in acknowledged.values() if stream not in ended
    ]
    sends = [
        {"type": "send", "id": event["id"], "content": event["prompt"]}
        for event in events if event["event"] == "sent" and event["id"] not in acknowledged
    ]
    frames, shares = resumes + sends, []
    with ThreadPoolExecutor(MENDERS) as menders:
        shares = [menders.submit(mend, url, history, frames[mender::MENDERS]) for mender in range(MENDERS)]
    found = Counter({"resumed": 0, "sent_again": 0, "were_stored_unacknowledged": 0})
    for share in shares:
        found.update(share.result())
    return found


def mend(url: str, history: History, frames: list[dict]) -> Counter:
    """Sends these frames over one socket, and waits for the end of each one's answer."""
    socket, reader, found = Socket(url), Reader(), Counter()
    for start in range(0, len(frames), AT_ONCE):
        batch = frames[start:start + AT_ONCE]
        waiting = {frame["stream"] for frame in batch if frame["type"] == "resume"}
        unacknowledged = {frame["id"] for frame in batch if frame["type"] == "send"}
        found.update(resumed=len(waiting), sent_again=len(unacknowledged))
        for frame in batch:
            socket.send(frame)
        while waiting or unacknowledged:
            frame = socket.receive()
            if frame["type"] == "ack":
                note_ack(history, frame)
                unacknowledged.remove(frame["id"])
                waiting.add(frame["stream"])
                found["were_stored_unacknowledged"] += frame["duplicate"]
            elif reader.take(frame):
                note_end(history, reader, frame)
                waiting.discard(frame["stream"])
            elif frame["type"] == "error":
                raise SystemExit(f"refused after a restart: {frame}")
    socket.close()
    return found


def play(options, provider: Provider, number: int, since: int) -> dict:
    """One round: ask, strike, start again, reconcile, stop, judge."""
    begun = time.monotonic()
    chance = random.Random(options.seed * 1_000 + number)
    history = History(options.state / "history.jsonl")
    at_commit = number % 2 == 1
    crash_point = f"commit-before-ack={chance.randint(1, 80)}*off->return" if at_commit else None
    delay_s = None if at_commit else round(chance.uniform(0.02, 2.5), 3)
    server = Server(options, provider, crash_point)
    names = [f"r{number}.{time.time_ns()}c{client}" for client in range(options.clients)]
    clients = [threading.Thread(target=ask_until_gone, args=(server.url, history, name)) for name in names]
    try:
        for client in clients:
            client.start()
        if delay_s is not None:
            time.sleep(delay_s)
            server.signal(signal.SIGKILL)
        code = server.wait()
    finally:
        # Also when the soak itself is interrupted: nobody else may hold the data folder afterwards.
        server.stop()
    if at_commit and code != -signal.SIGABRT:
        raise SystemExit(f"the server ended with {code} instead of crashing: it must be built with --features failpoints")
    for client in clients:
        client.join(timeout=60)
    server = Server(options, provider)
    try:
        found = reconcile(server.url, history, since)
        last = signal.SIGKILL if chance.random() < 0.5 else signal.SIGTERM
        server.signal(last)
        server.wait()
    finally:
        server.stop()
    is_judged = (number + 1) % options.judge_every == 0 or number + 1 == options.rounds
    return {
        "round": number,
        "struck": crash_point or f"kill -9 after {delay_s} s",
        "events": len(history.events(since)),
        **found,
        "stopped_with": last.name,
        # Always of the whole history and the whole database.
        "verdict": judge(options) if is_judged else None,
        "history_bytes": history.size(),
        "took_s": round(time.monotonic() - begun, 1),
    }


def judge(options) -> dict:
    command = [sys.executable, HERE / "check.py", options.state / "data" / "ish.db", options.state / "history.jsonl"]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    if not checked.stdout:
        raise SystemExit(f"the judge failed:\n{checked.stderr}")
    return json.loads(checked.stdout)


def report(options, rounds: list[dict]) -> Path:
    now = datetime.datetime.now(datetime.UTC)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=HERE, check=False)
    whole = {
        "what": "kill -9 at random moments (even rounds) and a crash between commit and acknowledgement (odd rounds)",
        "date": now.isoformat(timespec="seconds"),
        "commit": commit.stdout.strip(),
        "machine": {"system": platform.platform(), "cpus": os.cpu_count()},
        "clients": options.clients,
        "seed": options.seed,
        "rounds": len(rounds),
        "acknowledged": rounds[-1]["verdict"]["events"].get("acknowledged", 0),
        "stored_but_unacknowledged_at_a_crash": sum(entry["were_stored_unacknowledged"] for entry in rounds),
        "resumed": sum(entry["resumed"] for entry in rounds),
        "judged_after_every": options.judge_every,
        "faults": count_faults(rounds),
        "took_s": round(sum(entry["took_s"] for entry in rounds)),
        "each": rounds,
    }
    options.report.mkdir(parents=True, exist_ok=True)
    path = options.report / f"soak-{now.date()}.json"
    path.write_text(json.dumps(whole, indent=1) + "\n")
    return path


def count_faults(rounds: list[dict]) -> int:
    return sum(len(entry["verdict"]["faults"]) for entry in rounds if entry["verdict"])


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--ish-bin", type=Path, required=True)
    parser.add_argument("--provider-bin", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--judge-every", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--state", type=Path, default=Path("target/soak"))
    parser.add_argument("--report", type=Path, default=HERE.parent.parent / "docs" / "reports")
    options = parser.parse_args()
    options.state.mkdir(parents=True, exist_ok=True)
    state = options.state / "rounds.json"
    rounds = json.loads(state.read_text()) if state.exists() else []
    provider = Provider(options.provider_bin)
    try:
        for number in range(len(rounds), options.rounds):
            rounds.append(play(options, provider, number, rounds[-1]["history_bytes"] if rounds else 0))
            state.write_text(json.dumps(rounds))
            print(f"round {number + 1} of {options.rounds}: {json.dumps(rounds[-1])}", flush=True)
    finally:
        provider.stop()
    path = report(options, rounds)
    faults = count_faults(rounds)
    print(f"{len(rounds)} rounds, {faults} faults: {path}")
    # The next run begins anew.
    shutil.rmtree(options.state)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
