#!/usr/bin/env python3
"""Measures the start with a full cache: fills a data folder with entries, starts the server, and prints how long it took
to `/readyz`, how long until the index held everything, and the memory then; and the memory of a server that has embedded a few questions.

Usage: measure_start.py ISH_BINARY [--entries 100000] [--rounds 5] [--reports FOLDER]
"""
import argparse
import datetime
import json
import os
import pathlib
import random
import socket
import sqlite3
import statistics
import struct
import subprocess
import tempfile
import time
import urllib.error
import urllib.request


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ready(port: int) -> dict | None:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as reply:
            return json.load(reply)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return None


def start(binary: str, folder: str) -> tuple[subprocess.Popen, int, float]:
    port = free_port()
    environment = {"PATH": os.environ["PATH"], "ISH_LISTEN": f"127.0.0.1:{port}", "ISH_DATA_DIR": folder}
    began = time.perf_counter()
    server = subprocess.Popen([binary, "serve"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while ready(port) is None:
        if server.poll() is not None:
            raise SystemExit("the server ended at once")
        time.sleep(0.001)
    return server, port, time.perf_counter() - began


def stop(server: subprocess.Popen) -> None:
    server.terminate()
    server.wait(timeout=30)


def fill(folder: str, entries: int, embedder: str) -> None:
    generator = random.Random(7)
    database = sqlite3.connect(os.path.join(folder, "cache.db"))
    now = int(time.time() * 1000)
    completion = json.dumps({"model": "demo", "choices": [{"index": 0, "message": {"role": "assistant", "content": "x" * 400}, "finish_reason": "stop"}], "usage": None})
    partitions = [generator.randbytes(32) for _ in range(10)]
    def rows():
        for number in range(entries):
            vector = [generator.gauss(0, 1) for _ in range(384)]
            norm = sum(value * value for value in vector) ** 0.5
            embedding = struct.pack("<384f", *(value / norm for value in vector))
            yield (generator.randbytes(32), generator.randbytes(32), partitions[number % 10], "local", "{}", f"question {number}", completion, "demo", 900, embedder, embedding, b"", now, now + 86_400_000)
    with database:
        database.executemany(
            "INSERT INTO entries (key, normalized, partition, tenant, scope, prompt, completion, provider, elapsed_ms, embedder, embedding, words, created_at, expires_at)"
            " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)", rows())
    database.close()


def resident_mb(pid: int) -> float:
    with open(f"/proc/{pid}/status") as status:
        line = next(line for line in status if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def ask(port: int, question: str) -> None:
    body = json.dumps({"model": "demo", "messages": [{"role": "user", "content": question}]}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/chat/completions", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request) as reply:
        reply.read()


def target(test: str, name: str, unit: str, most: float, measured: float) -> dict:
    return {"test": test, "name": name, "unit": unit, "bound": {"at_most": most}, "measured": measured, "met": measured <= most}


def keep(folder: pathlib.Path, wish: argparse.Namespace, targets: list[dict]) -> None:
    """As `loadtest` keeps the reports of its scenarios, so that `loadtest gather` reads it."""
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    model = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "")
    report = {
        "timestamp": now, "scenario": "start", "machine": f"processor: {model}, load averages {open('/proc/loadavg').read().strip()}",
        "setup": {"entries": wish.entries, "rounds": wish.rounds}, "targets": targets, "results": {},
        "overall": "PASS" if all(one["met"] for one in targets) else "FAIL", "recommendations": [],
    }
    (folder / f"start-{now[:10]}.json").write_text(json.dumps(report, indent=2) + "\n")


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("binary")
    arguments.add_argument("--entries", type=int, default=100_000)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--reports", type=pathlib.Path)
    wish = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server, port, empty = start(wish.binary, folder)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/status") as reply:
            embedder = json.load(reply)["embedder"]
        for question in ("Why is the sky blue?", "How is glass made?", "What is a monad?"):
            ask(port, question)
        idle = resident_mb(server.pid)
        print(f"empty: ready in {empty * 1000:.0f} ms, {idle:.0f} MB after three questions")
        stop(server)
        fill(folder, wish.entries, embedder)
        starts = []
        for _ in range(wish.rounds):
            server, port, until_ready = start(wish.binary, folder)
            began = time.perf_counter()
            while not ready(port)["index_loaded"]:
                time.sleep(0.005)
            loaded = time.perf_counter() - began
            print(f"{wish.entries} entries: ready in {until_ready * 1000:.0f} ms, index loaded {loaded * 1000:.0f} ms later, {resident_mb(server.pid):.0f} MB")
            starts.append(until_ready * 1000)
            stop(server)
    if wish.reports:
        ready_ms, idle_mb = statistics.median(starts), idle * 1024 * 1024 / 1e6
        keep(wish.reports, wish, [target("start", "ready", "ms", 100, ready_ms), target("start", "resident, the embedder loaded", "MB", 100, idle_mb)])


main()
