"""An instance on Postgres behind PgBouncer, with Redis, under `loadtest endurance`, while what stands behind it is taken away in turn: Redis
and PgBouncer are killed, Postgres is restarted, each away for some seconds. What is asked without a conversation has to be answered all the
while; afterwards the instance has to hold no more than before.

Needs `scripts/services.sh start`, and uses its servers: nothing else may. Without servers: `loadtest endurance --ish-bin PATH`.

Usage: endurance.py --ish-bin PATH --loadtest-bin PATH [--every SECONDS] [--away SECONDS] [arguments of `loadtest endurance`]
"""

import argparse
import itertools
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from servers import Services

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "clients"))

from processes import Program, Provider, environment  # noqa: E402

#: What is taken away, and how.
AWAY = [("redis", signal.SIGKILL), ("pgbouncer", signal.SIGKILL), ("postgres", signal.SIGINT)]


class Outages(threading.Thread):
    """Takes one server after the other away for a while, until it is told to stop; all are back then."""

    def __init__(self, services: Services, every: float, away: float):
        super().__init__()
        self._services, self._every, self._away = services, every, away
        self._over = threading.Event()
        self.count = 0

    def run(self) -> None:
        for name, number in itertools.cycle(AWAY):
            if self._over.wait(self._every):
                return
            command = self._services.stop(name, number)
            self._over.wait(self._away)
            self._services.start(name, command)
            self.count += 1

    def stop(self) -> None:
        self._over.set()
        self.join()


def main() -> int:
    options = argparse.ArgumentParser()
    options.add_argument("--ish-bin", type=Path, required=True)
    options.add_argument("--loadtest-bin", type=Path, required=True)
    options.add_argument("--every", type=float, default=90.0)
    options.add_argument("--away", type=float, default=3.0)
    options, further = options.parse_known_args()
    services = Services()
    with tempfile.TemporaryDirectory() as folder:
        provider = Provider(options.loadtest_bin)
        env = environment(Path(folder), provider.base_url) | services.new_database("endurance")
        # As they come, unlike in tests.
        del env["ISH_EMBEDDING_WAIT"], env["ISH_BREAKER_FAILURES"]
        # Caches that are full soon: one that fills is no leak.
        env |= {"ISH_CACHE_MEMORY_BYTES": str(16 << 20), "ISH_CACHE_INDEX_MAX_ENTRIES": "10000"}
        instance = Program([options.ish_bin, "serve"], "page", env)
        outages = Outages(services, options.every, options.away)
        outages.start()
        try:
            of = ["--url", f"{instance.url.rstrip('/')}/v1/chat/completions", "--pid", str(instance.pid)]
            status = subprocess.run([options.loadtest_bin, "endurance", *of, *further]).returncode
        finally:
            outages.stop()
            for program in (instance, provider):
                program.stop()
    print(f"{outages.count} outages of {', '.join(name for name, _ in AWAY)}, {options.away} s each")
    return status


if __name__ == "__main__":
    sys.exit(main())
