#!/usr/bin/env python3
"""Measures the start with a full cache: fills a data folder with entries, starts the server, and prints how long it took
to `/readyz`, how long until the index held everything, and the memory then.

Usage: measure_start.py ISH_BINARY [--entries 100000] [--rounds 5]
"""
import argparse
import json
import os
import random
import socket
import sqlite3
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


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("binary")
    arguments.add_argument("--entries", type=int, default=100_000)
    arguments.add_argument("--rounds", type=int, default=5)
    wish = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server, port, empty = start(wish.binary, folder)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/status") as reply:
            embedder = json.load(reply)["embedder"]
        print(f"empty: ready in {empty * 1000:.0f} ms, {resident_mb(server.pid):.0f} MB")
        stop(server)
        fill(folder, wish.entries, embedder)
        for _ in range(wish.rounds):
            server, port, until_ready = start(wish.binary, folder)
            began = time.perf_counter()
            while not ready(port)["index_loaded"]:
                time.sleep(0.005)
            loaded = time.perf_counter() - began
            print(f"{wish.entries} entries: ready in {until_ready * 1000:.0f} ms, index loaded {loaded * 1000:.0f} ms later, {resident_mb(server.pid):.0f} MB")
            stop(server)


main()
