"""Traces the system calls of one send and shows that the question is on disk before it is acknowledged: the write to
the database's log, its fdatasync, and only then the frame that says `ack`. Writes docs/reports/trace-ack-DATE.txt.

Usage: trace_ack.py --ish-bin PATH [--report FOLDER]
"""

import argparse
import datetime
import json
import os
import re
import signal
import sys
import tempfile
import time
from pathlib import Path

from wire import Socket

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "clients"))

from processes import Program, environment  # noqa: E402

CALLS = "trace=write,writev,pwrite64,sendto,sendmsg,fsync,fdatasync"


class Traced(Program):
    """The server under strace."""

    def wait(self) -> None:
        self._child.wait(timeout=60)
        self._reader.join()


def trace(options) -> list[str]:
    """The calls of one send, oldest first, in strace's words."""
    with tempfile.TemporaryDirectory(prefix="ish-trace-") as folder:
        log = Path(folder) / "strace.log"
        env = environment(Path(folder) / "data", "http://127.0.0.1:9/v1")
        command = ["strace", "-f", "-tt", "-y", "-s", "60", "-e", CALLS, "-o", log, options.ish_bin, "serve"]
        server = Traced(command, "page", env)
        socket = Socket(server.url)
        # The start's own writes are over once the socket is greeted; what follows belongs to the send.
        time.sleep(0.5)
        begun = len(log.read_text().splitlines())
        socket.send({"type": "send", "id": "traced", "content": "Is it durable?", "model": "demo"})
        while socket.receive()["type"] != "ack":
            pass
        socket.close()
        # strace keeps signals to itself: the server is told by its own number, which its lock file holds.
        os.kill(json.loads((Path(folder) / "data" / "ish.lock").read_text())["pid"], signal.SIGTERM)
        server.wait()
        return [line.replace(folder, "...") for line in log.read_text().splitlines()[begun:]]


def place(lines: list[str], pattern: str, after: int) -> int:
    found = next((number for number in range(after, len(lines)) if re.search(pattern, lines[number])), None)
    if found is None:
        raise SystemExit(f"no call like {pattern!r} after line {after} of:\n" + "\n".join(lines))
    return found


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--ish-bin", type=Path, required=True)
    parser.add_argument("--report", type=Path, default=HERE.parent.parent / "docs" / "reports")
    options = parser.parse_args()
    lines = trace(options)
    ack = place(lines, r'(sendto|write|writev|sendmsg)\(.*\\"type\\":\\"ack\\"', 0)
    written = place(lines, r"pwrite64\(\d+<[^>]*ish\.db-wal>", 0)
    synced = place(lines, r"(fdatasync|fsync)\(\d+<[^>]*ish\.db-wal>", written)
    # With several threads a call may end on a line of its own: its end counts.
    if "unfinished" in lines[synced]:
        synced = place(lines, rf"^{lines[synced].split()[0]} .*(fdatasync|fsync) resumed", synced)
    last_write = max(n for n in range(ack) if re.search(r"pwrite64\(\d+<[^>]*ish\.db-wal>", lines[n]))
    if not last_write < synced < ack:
        raise SystemExit(f"the acknowledgement does not wait for the disk: write {last_write}, sync {synced}, ack {ack}")
    now = datetime.datetime.now(datetime.UTC)
    text = [
        f"One send traced on {now.isoformat(timespec='seconds')}: strace -f -tt -y -e {CALLS}",
        f"line {written + 1} to {last_write + 1}: the question goes into the database's log",
        f"line {synced + 1}: the log is on disk",
        f"line {ack + 1}: the acknowledgement goes out",
        "",
        *(f"{number + 1:4} {line}" for number, line in enumerate(lines[: ack + 1])),
        "",
    ]
    options.report.mkdir(parents=True, exist_ok=True)
    path = options.report / f"trace-ack-{now.date()}.txt"
    path.write_text("\n".join(text))
    print(f"the log is on disk (line {synced + 1}) before the ack (line {ack + 1}): {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
