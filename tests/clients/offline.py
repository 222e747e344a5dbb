"""Asks a server two questions where there is no network; `test_offline.py` runs it in a network namespace of its own.

    unshare --net python offline.py ISH_BINARY

Prints what came of them as JSON. Uses the standard library only, since it is a check of what needs nothing else.
"""

import fcntl
import json
import socket
import struct
import sys
import urllib.request
from pathlib import Path

from processes import PATIENCE_S, Ish

#: The same question twice, in different words.
QUESTIONS = ("Why do leaves change their colour in autumn?", "What makes leaves change colour in autumn?")

SIOCSIFFLAGS = 0x8914
IFF_UP = 0x1


def main() -> None:
    raise_loopback()
    interfaces = [name for _, name in socket.if_nameindex()]
    server = Ish(Path(sys.argv[1]), provider_url=None)
    try:
        answers = [ask(server.base_url, question) for question in QUESTIONS]
    finally:
        server.stop()
    print(json.dumps({"interfaces": interfaces, "answers": answers}))


def raise_loopback() -> None:
    """A new namespace has a loopback interface that is down."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", IFF_UP))


def ask(base_url: str, question: str) -> dict[str, str]:
    body = {"model": "demo", "messages": [{"role": "user", "content": question}]}
    request = urllib.request.Request(
        f"{base_url}/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    # Names of proxies in the environment are not for us.
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(request, timeout=PATIENCE_S) as reply:
        text = json.load(reply)["choices"][0]["message"]["content"]
        return {"outcome": reply.headers["x-ish-cache"], "text": text}


if __name__ == "__main__":
    main()
