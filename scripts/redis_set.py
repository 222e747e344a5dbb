#!/usr/bin/env python3
"""A Redis cluster (three masters with a replica each) or a Redis with two replicas and three sentinels, for one test of its own: on free
ports of 127.0.0.1, with data that goes when they stop. Needs redis-server and redis-cli 7 or newer (scripts/setup.sh servers).

    redis_set.py cluster | sentinel

Prints `PORT PID` for each server that answers clients of the set (nodes of the cluster; the sentinels), then `ready`. Ends everything when
its input ends, so that nothing outlives a test that is killed.
"""

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

PATIENCE_S = 60

#: What the sentinels call the master.
NAME = "ish"


class Set:
    def __init__(self, folder: Path):
        self.folder = folder
        self.servers: list[subprocess.Popen] = []

    def start(self, port: int, settings: list[str], mode: list[str] | None = None) -> subprocess.Popen:
        folder = self.folder / str(port)
        folder.mkdir()
        own = [f"port {port}", "bind 127.0.0.1", f"dir {folder}", 'save ""', "appendonly no"]
        (folder / "redis.conf").write_text("\n".join(own + settings) + "\n")
        log = (folder / "log").open("w")
        server = subprocess.Popen(["redis-server", folder / "redis.conf", *(mode or [])], stdin=subprocess.DEVNULL, stdout=log)
        self.servers.append(server)
        until(f"{port} answers", lambda: ask(port, "ping") == "PONG")
        return server

    def cluster(self) -> list[tuple[int, subprocess.Popen]]:
        """Each server's own port for the others is a free one too: ten thousand above its first, as usual, there may be none."""
        ports, bus = free_ports(6), free_ports(6)
        nodes = []
        for port, own in zip(ports, bus, strict=True):
            settings = ["cluster-enabled yes", "cluster-config-file nodes.conf", "cluster-node-timeout 2000"]
            nodes.append((port, self.start(port, [*settings, f"cluster-port {own}"])))
        addresses = [f"127.0.0.1:{port}" for port in ports]
        make = ["redis-cli", "--cluster", "create", *addresses, "--cluster-replicas", "1", "--cluster-yes"]
        made = subprocess.run(make, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if made.returncode:
            sys.exit(f"redis_set: {made.stdout}{made.stderr}")
        for port in ports:
            until(f"{port} knows the cluster", lambda: "cluster_state:ok" in ask(port, "cluster", "info"))
            until(f"{port} knows the replicas", lambda: ask(port, "cluster", "nodes").count("slave ") == 3)
        # A replica takes over only once it holds its master's data.
        for port in ports:
            until(f"{port} is whole", lambda: "master_link_status:down" not in ask(port, "info", "replication"))
        return nodes

    def sentinel(self) -> list[tuple[int, subprocess.Popen]]:
        master, *replicas = free_ports(3)
        self.start(master, [])
        for port in replicas:
            self.start(port, [f"replicaof 127.0.0.1 {master}"])
            until(f"{port} is whole", lambda: "master_link_status:up" in ask(port, "info", "replication"))
        watch = [f"sentinel monitor {NAME} 127.0.0.1 {master} 2", f"sentinel down-after-milliseconds {NAME} 1000"]
        watch += [f"sentinel failover-timeout {NAME} 5000"]
        sentinels = [(port, self.start(port, watch, ["--sentinel"])) for port in free_ports(3)]
        for port, _ in sentinels:
            until(f"{port} knows the others", lambda: known(ask(port, "sentinel", "master", NAME)) == ("2", "2"))
        return sentinels

    def stop(self) -> None:
        for server in self.servers:
            server.kill()
        for server in self.servers:
            server.wait()


def known(said: str) -> tuple[str | None, str | None]:
    """How many replicas and other sentinels a sentinel knows."""
    words = said.splitlines()
    facts = dict(zip(words[::2], words[1::2], strict=False))
    return facts.get("num-slaves"), facts.get("num-other-sentinels")


def ask(port: int, *words: str) -> str:
    command = ["redis-cli", "-h", "127.0.0.1", "-p", str(port), *words]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout.strip()


def free_ports(count: int) -> list[int]:
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in taken]
    for one in taken:
        one.close()
    return ports


def until(what: str, found: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not found():
        if time.monotonic() > deadline:
            sys.exit(f"redis_set: waited {PATIENCE_S} s until {what}")
        time.sleep(0.05)


def main() -> None:
    kind = sys.argv[1] if len(sys.argv) == 2 else ""
    if kind not in ("cluster", "sentinel"):
        sys.exit("redis_set: say cluster or sentinel")
    with tempfile.TemporaryDirectory(prefix="ish-redis-") as folder:
        servers = Set(Path(folder))
        try:
            for port, server in getattr(servers, kind)():
                print(port, server.pid)
            print("ready", flush=True)
            sys.stdin.read()
        finally:
            servers.stop()


if __name__ == "__main__":
    main()
