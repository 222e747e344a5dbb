"""Clients that ask all the time, as the documents tell clients to: over the socket with docs/websocket.md's ways to come back, and over
HTTP without a second try. What each was told is kept, and judged against the provider's log and what is stored."""

import http.client
import itertools
import json
import secrets
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from wire import Gone, Socket

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "clients"))

from processes import PROVIDER_KEY, Provider  # noqa: E402

#: Tokens of the answers, in turn; one takes as long as they do in milliseconds, times three.
TOKENS = [10, 40, 200]
#: Questions that a socket asks at once.
AT_ONCE = 2
#: How long a socket's client tries to come back, and how long it waits before: at first, and at most.
PATIENCE_S, BACK_S = 60, (0.25, 2)
#: One in so many requests over HTTP asks what others ask at the same time.
SHARED_EVERY = 5


@dataclass
class Sent:
    """One question, and what became of it."""

    prompt: str
    kind: str
    text: str | None = None
    conversation: str | None = None
    failure: str | None = None
    #: Asked by one client only, so that one call must have been made for it.
    own: bool = True


@dataclass
class Told:
    """What all clients were told."""

    #: In every question, so that none was asked before.
    name: str = field(default_factory=lambda: secrets.token_hex(4))
    sent: list[Sent] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    counts: Counter = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def asks(self, sent: Sent) -> Sent:
        with self._lock:
            self.sent.append(sent)
        return sent

    def count(self, what: str, times: int = 1) -> None:
        with self._lock:
            self.counts[what] += times

    def fault(self, what: str) -> None:
        with self._lock:
            self.faults.append(what)


@dataclass
class Answer:
    """As far as it was heard."""

    sent: Sent
    epoch: int = 1
    seq: int = 0
    text: str = ""


class Client(threading.Thread):
    """Asks until it is told that all is over; what is under way then is brought to its end."""

    def __init__(self, number: int, url: str, key: str, told: Told, over: threading.Event):
        super().__init__()
        self.number, self.url, self.key, self.told, self.over = number, url, key, told, over
        # An address of its own, so that limits by address are those of as many clients.
        self.source = f"127.0.1.{number + 1}"
        self.turns = itertools.count(1)

    def question(self, kind: str) -> Sent:
        turn = next(self.turns)
        prompt = f"What does client {self.told.name}-{self.number} ask in turn {turn}? [[tokens={TOKENS[turn % 3]} each=3ms]]"
        return self.told.asks(Sent(prompt, kind))

    def run(self) -> None:
        while not self.over.is_set():
            self.play()
            time.sleep(0.05)

    def play(self) -> None:
        raise NotImplementedError


class SocketClient(Client):
    """Comes back when it is sent away or cut off, resumes what has no end, and sends again what was not acknowledged."""

    def __init__(self, *args):
        super().__init__(*args)
        self.socket: Socket | None = None
        self.is_sent_away = False
        self.unacknowledged: dict[str, Sent] = {}
        self.open: dict[str, Answer] = {}

    def play(self) -> None:
        for _ in range(AT_ONCE):
            self.unacknowledged[f"{self.told.name}-{self.number}-{time.time_ns()}"] = self.question("socket")
        begun = time.monotonic()
        if self.socket and not self.is_sent_away:
            self.saying(lambda: [self.send(name) for name in self.unacknowledged])
        while self.unacknowledged or self.open:
            if self.socket is None or (self.is_sent_away and not self.open):
                self.come_back(begun)
            self.saying(lambda: self.take(self.socket.receive()))

    def saying(self, say) -> None:
        try:
            say()
        except Gone:
            self.told.count("sockets_closed")
            self.leave()

    def leave(self) -> None:
        if self.socket:
            self.socket.close()
        self.socket, self.is_sent_away = None, False

    def come_back(self, begun: float) -> None:
        self.leave()
        wait = BACK_S[0]
        while self.socket is None:
            if time.monotonic() - begun > PATIENCE_S:
                raise SystemExit(f"client {self.number} found nobody in {PATIENCE_S} s")
            try:
                self.socket = Socket(self.url, self.key, self.source)
                self.told.count("sockets_opened")
                for stream, answer in self.open.items():
                    self.told.count("resumed")
                    self.socket.send({"type": "resume", "stream": stream, "epoch": answer.epoch, "after": answer.seq})
                for name in self.unacknowledged:
                    self.send(name)
            except Gone:
                self.leave()
                time.sleep(wait)
                wait = min(2 * wait, BACK_S[1])

    def send(self, name: str) -> None:
        self.told.count("sends_over_sockets")
        self.socket.send({"type": "send", "id": name, "content": self.unacknowledged[name].prompt, "model": "mock"})

    def take(self, frame: dict) -> None:
        kind, stream = frame["type"], frame.get("stream")
        if kind == "draining":
            self.told.count("told_to_move")
            self.is_sent_away = True
        elif kind == "ack":
            sent = self.unacknowledged.pop(frame["id"])
            sent.conversation = frame["conversation"]
            self.told.count("stored_unacknowledged", frame["duplicate"])
            self.open[stream] = Answer(sent)
        elif kind == "error" and stream is None:
            self.refused(frame)
        elif stream not in self.open:
            self.told.fault(f"of an answer that has ended: {frame}")
        else:
            self.hear(self.open[stream], frame)

    def refused(self, frame: dict) -> None:
        """Who is about to stop takes nothing more; that is no failure of a question, which is sent again elsewhere."""
        if frame["code"] == "draining":
            self.told.count("refused_by_one_that_stops")
            self.is_sent_away = True
        else:
            self.told.fault(f"refused: {frame}")
            self.unacknowledged.pop(frame.get("id"), None)

    def hear(self, answer: Answer, frame: dict) -> None:
        kind = frame["type"]
        if kind == "delta":
            if (frame["epoch"], frame["from"]) != (answer.epoch, answer.seq + 1):
                self.told.fault(f"a hole or a double behind {answer.epoch}.{answer.seq}: {frame}")
            answer.seq, answer.text = frame["seq"], answer.text + frame["text"]
        elif kind == "snapshot":
            answer.epoch, answer.seq, answer.text = frame["epoch"], frame["seq"], frame["text"]
            self.told.count("snapshots")
        elif kind == "status" and frame["epoch"] > answer.epoch:
            answer.epoch, answer.seq, answer.text = frame["epoch"], 0, ""
        elif kind in ("done", "cancelled", "error", "gone"):
            del self.open[frame["stream"]]
            if kind == "done" and frame["seq"] == answer.seq:
                answer.sent.text = answer.text
            else:
                answer.sent.failure = f"{frame} behind {answer.epoch}.{answer.seq}"


class HttpClient(Client):
    """Asks over one connection as long as that is kept, in each way in turn, and never again what has failed."""

    def __init__(self, *args):
        super().__init__(*args)
        host, port = self.url.removeprefix("http://").rsplit(":", 1)
        self.connection = http.client.HTTPConnection(host, int(port), timeout=30, source_address=(self.source, 0))
        self.kinds = itertools.cycle([self.stored, self.stored_events, self.whole, self.stream])

    def play(self) -> None:
        ask = next(self.kinds)
        sent = self.question(ask.__name__)
        if next(self.turns) % SHARED_EVERY == 0 and ask in (self.whole, self.stream):
            # Of all clients in one second; equal over instances.
            sent.prompt, sent.own = f"What is asked by all of {self.told.name} at {int(time.time())}? [[tokens=200 each=3ms]]", False
        try:
            ask(sent)
        except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
            sent.failure = f"{type(error).__name__}: {error}"
            self.connection.close()

    def post(self, path: str, body: dict) -> str:
        headers = {"authorization": f"Bearer {self.key}", "content-type": "application/json"}
        self.told.count("http_requests")
        self.connection.request("POST", path, json.dumps(body), headers)
        reply = self.connection.getresponse()
        text = reply.read().decode()
        if reply.status // 100 != 2:
            raise ValueError(f"{path}: {reply.status} {text}")
        return text

    def session(self) -> str:
        return json.loads(self.post("/api/sessions", {}))["id"]

    def stored(self, sent: Sent) -> None:
        sent.conversation = self.session()
        reply = self.post(f"/api/sessions/{sent.conversation}/messages", {"content": sent.prompt, "model": "mock"})
        sent.text = json.loads(reply)["answer"]["content"]

    def stored_events(self, sent: Sent) -> None:
        sent.conversation = self.session()
        body = {"content": sent.prompt, "model": "mock", "stream": True}
        frames = events(self.post(f"/api/sessions/{sent.conversation}/messages", body))
        if frames[-1]["type"] != "done":
            raise ValueError(f"it ended with {frames[-1]}")
        sent.text = "".join(frame["text"] for frame in frames if frame["type"] == "delta")

    def whole(self, sent: Sent) -> None:
        sent.text = json.loads(self.post("/v1/chat/completions", completion(sent.prompt)))["choices"][0]["message"]["content"]

    def stream(self, sent: Sent) -> None:
        text = self.post("/v1/chat/completions", completion(sent.prompt) | {"stream": True})
        if not text.endswith("data: [DONE]\n\n"):
            raise ValueError(f"it ended with {text[-300:]}")
        choices = (chunk["choices"] for chunk in events(text.removesuffix("data: [DONE]\n\n")))
        sent.text = "".join(choice["delta"].get("content") or "" for found in choices for choice in found)


def completion(prompt: str) -> dict:
    return {"model": "mock", "messages": [{"role": "user", "content": prompt}]}


def events(text: str) -> list[dict]:
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]


class Load:
    """So many clients of each kind, until the end."""

    def __init__(self, url: str, key: str, sockets: int, https: int):
        self.told, self._over = Told(), threading.Event()
        kinds = [SocketClient] * sockets + [HttpClient] * https
        self._clients = [kind(number, url, key, self.told, self._over) for number, kind in enumerate(kinds)]
        for client in self._clients:
            client.start()

    def end(self) -> Told:
        self._over.set()
        for client in self._clients:
            client.join()
        return self.told


def judge(told: Told, provider: Provider, stored: Callable[[str], list[dict]]) -> list[str]:
    """What is wrong: a question without an answer or asked twice, an answer that is not the provider's or not what is stored.
    `stored` reads a conversation's messages."""
    found = told.faults + [f"{sent.kind} failed: {sent.failure}, {sent.prompt}" for sent in told.sent if sent.text is None]
    entries = (entry for entry in provider.log() if entry["route"] == "chat")
    asked = (json.loads(entry["body"])["messages"][-1]["content"] for entry in entries)
    # The provider has others' questions too, some of them in parts.
    calls = Counter(question for question in asked if isinstance(question, str))
    found += [f"{calls[sent.prompt]} calls for {sent.prompt}" for sent in told.sent if sent.own and calls[sent.prompt] > 1]
    answered = [sent for sent in told.sent if sent.text is not None]
    kept = [sent for sent in answered if sent.conversation]
    with ThreadPoolExecutor(4) as readers:
        texts = readers.map(lambda sent: answer_of(provider, sent.prompt), answered)
        found += [f"{sent.kind}: another text, {sent.prompt}" for sent, text in zip(answered, texts) if sent.text != text]
        for sent, messages in zip(kept, readers.map(lambda sent: stored(sent.conversation), kept)):
            is_stored = [(message["role"], message["content"], message["state"]) for message in messages]
            if is_stored != [("user", sent.prompt, "complete"), ("assistant", sent.text, "complete")]:
                found.append(f"{sent.kind}: stored is {is_stored}, {sent.prompt}")
    return found


def answer_of(provider: Provider, prompt: str) -> str:
    """What the provider itself answers."""
    headers = {"content-type": "application/json", "authorization": f"Bearer {PROVIDER_KEY}"}
    request = urllib.request.Request(f"{provider.base_url}/chat/completions", json.dumps(completion(prompt)).encode(), headers)
    with urllib.request.urlopen(request, timeout=30) as reply:
        return json.loads(reply.read())["choices"][0]["message"]["content"]
