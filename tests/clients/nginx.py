"""nginx with the project's files, in which only addresses are changed."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path

from processes import PATIENCE_S, wait_until

FILES = Path(__file__).resolve().parents[2] / "nginx"
#: The key of the instances behind it, which refuse strangers that come through a proxy.
KEY = "ish_the_admin_key_of_this_test"


class Nginx:
    """nginx with a copy of our files, in which only addresses are changed."""

    def __init__(self, program: str, folder: Path, instances: list[str], upstream: str = "upstream.conf"):
        self.folder = folder
        shutil.copytree(FILES, folder, ignore=shutil.ignore_patterns("temp", "*.log"))
        (folder / "temp").mkdir()
        with closing(socket.create_server(("127.0.0.1", 0))) as free:
            self.port = free.getsockname()[1]
        listen = (folder / "listen.conf").read_text()
        assert "listen 127.0.0.1:8000;" in listen
        (folder / "listen.conf").write_text(listen.replace("listen 127.0.0.1:8000;", f"listen 127.0.0.1:{self.port};"))
        (folder / "upstream.conf").write_text(with_instances((FILES / upstream).read_text(), instances))
        # Workers of a root's nginx run as nobody, who may not enter the tests' folder.
        directives = "daemon off;" + (" user root;" if os.geteuid() == 0 else "")
        self.command = [program, "-p", folder, "-c", "nginx.conf", "-g", directives]
        self.process: subprocess.Popen | None = None

    def check(self) -> str:
        done = subprocess.run([*self.command, "-t"], capture_output=True, text=True)
        return done.stderr if done.returncode else "ok"

    def start(self) -> "Nginx":
        self.process = subprocess.Popen(self.command, stderr=(self.folder / "stderr").open("w"))
        wait_until(lambda: self.get("/nginx/livez", patience=False), lambda: (self.folder / "stderr").read_text())
        return self

    def stop(self) -> None:
        if self.process:
            self.process.send_signal(signal.SIGQUIT)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.terminate()
                self.process.wait()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str, body: dict | None = None, headers: dict | None = None, patience: bool = True):
        """Status, headers, body."""
        data = json.dumps(body).encode() if body is not None else None
        headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"} | (headers or {})
        request = urllib.request.Request(self.url + path, data=data, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as reply:
                return reply.status, reply.headers, reply.read()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.headers, refused.read()
        except OSError:
            if patience:
                raise
            return None


def with_instances(upstream: str, instances: list[str]) -> str:
    """The file with these instances instead of its own, each with the parameters of the line it takes the place of."""
    addresses = iter(instances)

    def line(found: re.Match) -> str:
        address = next(addresses, None)
        return f"server {address}{found[2]};" if address else ""

    changed = re.sub(r"server (127\.0\.0\.1:808\d)([^;]*);", line, upstream)
    rest = "".join(f"    server {address} max_fails=2 fail_timeout=5s;\n" for address in addresses)
    return changed.replace("    keepalive 64;", f"{rest}    keepalive 64;")
