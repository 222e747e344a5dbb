"""Runs the services of a compose file as processes of this machine: the same programs, settings and files, in which only addresses and
paths are changed. (No container: there is none to be had where the tests run.)"""

import json
import os
import re
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path

import compose
from processes import PATIENCE_S, Ish, wait_until

#: The container's port of each service, as the others know it.
PORTS = {"postgres": 5432, "pgbouncer": 6432, "redis": 6379, "nginx": 8000, "prometheus": 9090, "alertmanager": 9093}
ISH_PORT = 8080

#: What an operator puts into `.env`.
VARIABLES = {
    name: f"{number:048x}"
    for number, name in enumerate(
        ["ADMIN_KEY", "POSTGRES_PASSWORD", "OWNER_PASSWORD", "APP_PASSWORD", "STATS_PASSWORD", "REDIS_PASSWORD", "GRAFANA_PASSWORD"],
        10**40,
    )
}


def programs(*words: str) -> str:
    """What setup.sh says to this."""
    command = [compose.REPOSITORY / "scripts" / "setup.sh", *words]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


class Stack:
    """The services of these files, started one after the other; `stop` ends those that were."""

    def __init__(self, files: list[str], folder: Path, provider_url: str, ish_bin: Path):
        self.folder, self.provider_url, self.ish_bin = folder, provider_url, ish_bin
        self.project = compose.load(files, VARIABLES)
        self.services = self.project["services"]
        self.instances = [name for name in self.services if name.startswith("ish")]
        self.postgres_bin = Path(programs("postgres"))
        programs("servers")
        self.ports = {name: free_port() for name in self.services}
        self.ish: dict[str, Ish] = {}
        #: Settings that a test gives every instance besides.
        self.more: dict[str, str] = {}
        self._children: dict[str, tuple[subprocess.Popen, int]] = {}
        # PostgreSQL and PgBouncer refuse to run as root, and whoever runs them must be able to enter.
        self._as_other = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"] if os.geteuid() == 0 else []
        for place in (folder, *folder.parents[:2]):
            place.chmod(place.stat().st_mode | 0o011)

    def start(self) -> "Stack":
        self.start_postgres()
        self.start_pgbouncer()
        self.start_redis()
        for name in self.instances:
            self.start_ish(name)
        self.start_nginx()
        return self

    def stop(self) -> None:
        for instance in self.ish.values():
            instance.stop()
        while self._children:
            _, (child, how) = self._children.popitem()
            child.send_signal(how)
            try:
                child.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def here(self, text: str) -> str:
        """The text with each service's address as it is on this machine."""
        for name, port in PORTS.items():
            text = text.replace(f"{name}:{port}", f"127.0.0.1:{self.ports[name]}")
        for name in self.instances:
            text = text.replace(f"{self.address(name)}:{ISH_PORT}", f"127.0.0.1:{self.ports[name]}")
        return text

    def address(self, service: str) -> str:
        """What a service has in the containers' network."""
        return self.services[service]["networks"]["default"]["ipv4_address"]

    def files(self, service: str, changes: dict[str, str]) -> Path:
        """Lays the service's files out below a folder of its own, with these changes; each must be possible."""
        root = self.folder / service
        root.mkdir()
        asked = set(changes)
        for path, text in compose.mounted(self.project, service).items():
            for old, new in changes.items():
                asked -= {old} if old in text else set()
                text = text.replace(old, new.replace("{root}", str(root)))
            file = root / path.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(self.here(text))
        assert not asked, f"{service}: no file says {asked}"
        if self._as_other:
            subprocess.run(["chown", "-R", "postgres:postgres", root], check=True)
        return root

    def start_postgres(self) -> None:
        root, part, port = self.files("postgres", {}), self.services["postgres"], self.ports["postgres"]
        (root / "password").write_text(part["environment"]["POSTGRES_PASSWORD"])
        make = ["-D", root / "data", "-U", "postgres", "-A", "scram-sha-256", "--pwfile", root / "password", "-N"]
        command = [*self._as_other, self.postgres_bin / "initdb", *make]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=root)
        program, *options = part["command"]
        where = ["-D", root / "data", "-p", str(port), "-k", root, "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
        self.child("postgres", [*self._as_other, self.postgres_bin / program, *options, *where], signal.SIGINT)
        is_ready = [self.postgres_bin / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
        wait_until(lambda: subprocess.run(is_ready).returncode == 0, lambda: "postgres takes connections")
        login = {"PGHOST": "127.0.0.1", "PGPORT": str(port), "PGPASSWORD": part["environment"]["POSTGRES_PASSWORD"]}
        script = root / "docker-entrypoint-initdb.d" / "ish.sh"
        path = {"PATH": f"{self.postgres_bin}{os.pathsep}{os.environ['PATH']}"}
        subprocess.run(["sh", script], check=True, env=os.environ | part["environment"] | login | path)

    def start_pgbouncer(self) -> None:
        changes = {
            "host=postgres port=5432": f"host=127.0.0.1 port={self.ports['postgres']}",
            "listen_addr = *": "listen_addr = 127.0.0.1",
            "listen_port = 6432": f"listen_port = {self.ports['pgbouncer']}",
            "/etc/pgbouncer/userlist.txt": "{root}/etc/pgbouncer/userlist.txt",
            "/var/log/pgbouncer/": "{root}/",
            "/run/pgbouncer/": "{root}/",
        }
        root = self.files("pgbouncer", changes)
        command = [*self._as_other, "pgbouncer", root / "etc/pgbouncer/pgbouncer.ini"]
        self.child("pgbouncer", command, signal.SIGTERM)

    def change_pgbouncers_users(self, users: str) -> None:
        (self.folder / "pgbouncer/etc/pgbouncer/userlist.txt").write_text(users)
        self._children["pgbouncer"][0].send_signal(signal.SIGHUP)

    def start_redis(self) -> None:
        changes = {
            "bind * -::*": "bind 127.0.0.1",
            "port 6379": f"port {self.ports['redis']}",
            "aclfile /etc/redis/users.acl": "aclfile {root}/etc/redis/users.acl",
            # One more, who may see how the server is set up.
            "user default off resetpass": f"user default off resetpass\nuser observer on >{VARIABLES['REDIS_PASSWORD']} +config|get",
        }
        root = self.files("redis", changes)
        program, conf = self.services["redis"]["command"]
        self.child("redis", [*self._as_other, program, root / conf.lstrip("/")], signal.SIGTERM)

    def start_ish(self, name: str) -> None:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        key = folder / "admin.key"
        key.write_text(VARIABLES[self.project["secrets"]["admin_key"]["environment"]])
        more = {variable: self.here(value) for variable, value in self.services[name]["environment"].items() if value}
        more |= {
            "ISH_LISTEN": f"127.0.0.1:{self.ports[name]}",
            "ISH_ADMIN_KEY_FILE": str(key),
            # nginx has no address of its own here.
            "ISH_TRUSTED_PROXIES": "127.0.0.1",
            **self.more,
        }
        self.ish[name] = Ish(self.ish_bin, self.provider_url, folder, more)

    def start_nginx(self) -> None:
        root = self.files("nginx", {"listen 8000;": f"listen 127.0.0.1:{self.ports['nginx']};", "/dev/stdout": "access.log"})
        prefix = root / "prefix"
        (prefix / "temp").mkdir(parents=True)
        program, *words = self.services["nginx"]["command"]
        found = {"/var/lib/ish-nginx": str(prefix), "/etc/ish-nginx/nginx.conf": str(root / "etc/ish-nginx/nginx.conf")}
        # Workers of a root's nginx run as nobody, who may not enter the tests' folder.
        words = [found.get(word, word) + (" user root;" if word == "daemon off;" and os.geteuid() == 0 else "") for word in words]
        self.child("nginx", [programs(program), *words], signal.SIGQUIT)

    def start_prometheus(self, faster: int) -> None:
        """With every time of its files `faster` times as short."""
        root = self.files("prometheus", {})
        for file in ["prometheus.yml", "prometheus.rules.yml"]:
            path = root / "etc/prometheus" / file
            path.write_text(hurried(path.read_text(), faster))
        address = f"--web.listen-address=127.0.0.1:{self.ports['prometheus']}"
        self.watcher("prometheus", "prometheus", root, address)

    def start_alertmanager(self, receiver: str, faster: int) -> None:
        """As above, telling the webhook `receiver`."""
        told = f'- name: operator\n    webhook_configs: [{{url: "{receiver}"}}]\n'
        root = self.files("alertmanager", {"- name: operator\n": told})
        path = root / "etc/alertmanager/alertmanager.yml"
        path.write_text(hurried(path.read_text(), faster))
        address = f"--web.listen-address=127.0.0.1:{self.ports['alertmanager']}"
        self.watcher("alertmanager", "prometheus-alertmanager", root, address)

    def watcher(self, service: str, program: str, root: Path, address: str) -> None:
        """Prometheus or its Alertmanager, with the service's own words, in which paths are below `root`."""
        words = [word.replace("=/", f"={root}/") for word in self.services[service]["command"]]
        self.child(service, [Path(programs("prometheus")) / program, *words, address], signal.SIGTERM)

    def child(self, name: str, command: list, how_to_stop: int) -> None:
        log = self.folder / f"{name}.log"
        child = subprocess.Popen(command, stdout=log.open("w"), stderr=subprocess.STDOUT)
        self._children[name] = (child, how_to_stop)
        port = self.ports[name]

        def listens() -> bool:
            assert child.poll() is None, f"{name} has ended:\n{log.read_text()}"
            with closing(socket.socket()) as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        wait_until(listens, lambda: f"{name} listens: {log.read_text()}")

    def sql(self, service: str, user: str, password: str, database: str, statement: str) -> str:
        """What psql says to a statement: rows as lines, columns between bars."""
        psql = [self.postgres_bin / "psql", "-XAt", "-h", "127.0.0.1", "-p", str(self.ports[service]), "-U", user, database]
        done = subprocess.run(
            [*psql, "-c", statement], capture_output=True, text=True, timeout=PATIENCE_S, env=os.environ | {"PGPASSWORD": password}
        )
        return done.stdout.strip() if done.returncode == 0 else done.stderr

    def redis(self, *words: str, user: str = "ish", password: str | None = None) -> str:
        env = os.environ | {"REDISCLI_AUTH": password or VARIABLES["REDIS_PASSWORD"]}
        command = ["redis-cli", "-h", "127.0.0.1", "-p", str(self.ports["redis"]), "--user", user, *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, env=env).stdout.strip()

    def ask(self, path: str, body: dict | None = None, key: str | None = None, at: str = "nginx"):
        """Status, headers and JSON of one request, through nginx or straight to an instance."""
        data = json.dumps(body).encode() if body is not None else None
        headers = {"authorization": f"Bearer {key or VARIABLES['ADMIN_KEY']}", "content-type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.ports[at]}{path}", data=data, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as reply:
                return reply.status, reply.headers, json.loads(reply.read())
        except urllib.error.HTTPError as refused:
            return refused.code, refused.headers, json.loads(refused.read())


def hurried(text: str, faster: int) -> str:
    """A file of Prometheus's with all durations shortened."""
    seconds = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    return re.sub(r"\b(\d+)([smhd])\b", lambda time: f"{int(time[1]) * seconds[time[2]] * 1000 // faster}ms", text)


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        return free.getsockname()[1]
