"""A client of docs/websocket.md on the standard library alone (RFC 6455), and the history that clients keep."""

import base64
import json
import os
import socket
import struct
import threading
from pathlib import Path


class Gone(Exception):
    """The other side has closed, or is dead."""


class Socket:
    """One greeted socket; blocking, for one thread."""

    def __init__(self, url: str, token: str | None = None, source: str = ""):
        """With the key `token` where one is needed, from the address `source` where that matters."""
        host, port = url.removeprefix("http://").split("/")[0].rsplit(":", 1)
        self._buffer = b""
        try:
            self._socket = socket.create_connection((host, int(port)), timeout=30, source_address=(source, 0))
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            key = base64.b64encode(os.urandom(16)).decode()
            request = (
                f"GET /ws HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
            )
            self._socket.sendall(request.encode())
            while b"\r\n\r\n" not in self._buffer:
                self._fill()
        except OSError as error:
            raise Gone from error
        head, self._buffer = self._buffer.split(b"\r\n\r\n", 1)
        if b" 101 " not in head.split(b"\r\n")[0] + b" ":
            raise Gone(head.decode(errors="replace"))
        self.send({"type": "hello", "protocol": 1} | ({"token": token} if token else {}))
        assert self.receive()["type"] == "welcome"

    def send(self, frame: dict) -> None:
        self._send(0x1, json.dumps(frame).encode())

    def receive(self) -> dict:
        """The next text frame; pings are answered on the way."""
        while True:
            opcode, payload = self._frame()
            if opcode == 0x1:
                return json.loads(payload)
            if opcode == 0x9:
                self._send(0xA, payload)
            elif opcode == 0x8:
                raise Gone(payload[2:].decode(errors="replace"))

    def close(self) -> None:
        self._socket.close()

    def _send(self, opcode: int, payload: bytes) -> None:
        mask = os.urandom(4)
        length = len(payload)
        size = bytes([0x80 | length]) if length < 126 else struct.pack("!BH", 0xFE, length)
        masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))
        try:
            self._socket.sendall(bytes([0x80 | opcode]) + size + mask + masked)
        except OSError as error:
            raise Gone from error

    def _frame(self) -> tuple[int, bytes]:
        first, second = self._take(2)
        length = second & 0x7F
        if length == 126:
            (length,) = struct.unpack("!H", self._take(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", self._take(8))
        return first & 0x0F, self._take(length)

    def _take(self, count: int) -> bytes:
        try:
            while len(self._buffer) < count:
                self._fill()
        except OSError as error:
            raise Gone from error
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken

    def _fill(self) -> None:
        piece = self._socket.recv(65536)
        if not piece:
            raise Gone
        self._buffer += piece


class History:
    """What clients did and were told: one JSON line an event, on disk before the client goes on."""

    def __init__(self, path: Path):
        self.path = path
        self._lock = threading.Lock()
        self._file = path.open("a", buffering=1)

    def note(self, event: str, **facts) -> None:
        with self._lock:
            self._file.write(json.dumps({"event": event, **facts}) + "\n")

    def size(self) -> int:
        """Bytes so far: the place from which `events` goes on."""
        return self.path.stat().st_size

    def events(self, since: int = 0) -> list[dict]:
        with self._lock, self.path.open("rb") as file:
            file.seek(since)
            return [json.loads(line) for line in file]


class Reader:
    """Puts the frames of several streams together, and insists on numbers without holes."""

    def __init__(self):
        self.texts: dict[str, str] = {}
        self._seqs: dict[str, int] = {}

    def take(self, frame: dict) -> bool:
        """Takes a frame; true when it ends its stream."""
        stream = frame.get("stream")
        if frame["type"] == "delta":
            assert frame["from"] == self._seqs.get(stream, 0) + 1, f"a hole or a double: {frame}"
            self._seqs[stream] = frame["seq"]
            self.texts[stream] = self.texts.get(stream, "") + frame["text"]
        elif frame["type"] == "snapshot":
            self._seqs[stream], self.texts[stream] = frame["seq"], frame["text"]
        return stream is not None and frame["type"] in ("done", "cancelled", "error", "gone")
