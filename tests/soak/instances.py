"""Instances on Postgres behind PgBouncer, with Redis, behind nginx with the project's files, and a provider that takes a set time; a
verb of `loadtest` is told where all of it is, and runs. Nothing that limits is raised: nginx's and ish's limits by address hold, since
each user comes from an address of his own; the one key has no rate, and may have more sockets than the users have (1,000 on each instance).

Needs `scripts/services.sh start`, and shares its servers with whoever uses them: figures want a quiet machine.

Usage: instances.py --ish-bin PATH --loadtest-bin PATH [--instances N] [--pace FIRST_TOKEN_MS FURTHER_TOKEN_MS] VERB [ARGUMENTS...]
  VERB   users (through nginx) or scale (straight to the instances); their arguments: `loadtest VERB --help`
"""

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from servers import ROOT, Services

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "clients"))

from nginx import KEY, Nginx  # noqa: E402
from processes import Program, environment  # noqa: E402


class Set:
    """All that runs beside the services, until `stop`."""

    def __init__(self, options: argparse.Namespace, services: Services, folder: Path):
        self._running = []
        self.key_file = folder / "admin.key"
        self.key_file.write_text(KEY)
        first, further = map(str, options.pace)
        # The log keeps each request whole.
        provider = [options.loadtest_bin, "provider", "--log-capacity", "100", "--first-token-ms", first, "--per-token-ms", further]
        try:
            self.provider = self._start(Program(provider, "listening on"))
            env = environment(folder, f"{self.provider.url}/v1") | services.new_database("instances")
            env |= {"ISH_ADMIN_KEY_FILE": str(self.key_file), "ISH_TRUSTED_PROXIES": "127.0.0.1"}
            # As it comes, unlike in tests: a look-up that waits too long for its embedding is a miss.
            del env["ISH_EMBEDDING_WAIT"]
            self.instances = {}
            for number in range(1, options.instances + 1):
                own = env | {"INSTANCE_ID": f"ish-{number}", "ISH_DATA_DIR": str(folder / f"ish-{number}")}
                self.instances[f"ish-{number}"] = self._start(Program([options.ish_bin, "serve"], "page", own))
            nginx = subprocess.run([ROOT / "scripts/setup.sh", "nginx"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
            addresses = [address(instance) for instance in self.instances.values()]
            self.nginx = Nginx(nginx, folder / "nginx", addresses, "upstream-least-connections.conf")
            self._start(self.nginx)
            self.nginx.start()
        except BaseException:
            self.stop()
            raise

    def _start(self, part):
        self._running.append(part)
        return part

    def stop(self) -> None:
        while self._running:
            self._running.pop().stop()

    def arguments(self, verb: str, services: Services) -> list[str]:
        """Where all of it is, as the verbs of `loadtest` want to be told."""
        pids = services.pids | {name: instance.pid for name, instance in self.instances.items()}
        pids |= {"nginx": self.nginx.process.pid, "provider": self.provider.pid}
        told = ["--key-file", str(self.key_file)]
        for name, instance in self.instances.items():
            told += ["--instance", f"{name}=http://{address(instance)}"]
        for name, pid in pids.items():
            told += ["--process", f"{name}={pid}"]
        return told + (["--url", f"{self.nginx.url}/ws"] if verb == "users" else ["--provider", self.provider.url])


def address(instance: Program) -> str:
    return instance.url.removeprefix("http://").split("/")[0]


def main() -> int:
    options = argparse.ArgumentParser()
    options.add_argument("--ish-bin", type=Path, required=True)
    options.add_argument("--loadtest-bin", type=Path, required=True)
    options.add_argument("--instances", type=int, default=2)
    options.add_argument("--pace", type=int, nargs=2, default=[0, 0])
    options.add_argument("verb", choices=["users", "scale"])
    options.add_argument("further", nargs=argparse.REMAINDER)
    options = options.parse_args()
    # A socket of a user is two files of nginx's.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    services = Services()
    with tempfile.TemporaryDirectory() as folder:
        running = Set(options, services, Path(folder))
        try:
            command = [options.loadtest_bin, options.verb, *running.arguments(options.verb, services), *options.further]
            return subprocess.run(command).returncode
        finally:
            running.stop()


if __name__ == "__main__":
    sys.exit(main())
