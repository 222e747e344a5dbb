"""Two instances on Postgres behind PgBouncer, with Redis, under load; then Postgres is restarted (fast, immediate), and PgBouncer
is killed and started again. Every send is answered 200, or 503 with `retry-after`; a refused one within two seconds, one whose
answer had begun within twice that; what was acknowledged is there afterwards; cached answers are served meanwhile; the first send succeeds within five seconds of the return.

Needs `scripts/services.sh start`, and uses its servers: nothing else may.

Usage: outage.py --ish-bin PATH --provider-bin PATH [--away SECONDS] [--report FOLDER]
"""

import argparse
import datetime
import json
import signal
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "clients"))

from processes import Program, Provider, environment  # noqa: E402
from servers import Services  # noqa: E402

#: Clients at once, half on each instance.
CLIENTS = 8
#: No refusal and no send may take longer, nor the first success after the return.
REFUSED_S, SEND_S, RETURN_S = 2.0, 4.0, 5.0


def post(url: str, path: str, body: dict) -> tuple[int, dict, dict]:
    request = urllib.request.Request(url + path, json.dumps(body).encode(), {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return reply.status, dict(reply.headers), json.loads(reply.read())
    except urllib.error.HTTPError as error:
        return error.code, {name.lower(): value for name, value in error.headers.items()}, json.loads(error.read())


def messages(url: str, session: str) -> list[dict]:
    with urllib.request.urlopen(f"{url}/api/sessions/{session}/messages", timeout=30) as reply:
        return json.loads(reply.read())["data"]


class Load:
    """Sends from all clients until it is stopped, and what became of each."""

    def __init__(self, urls: list[str]):
        self.sends, self.cached, self._over = [], [], threading.Event()
        self._threads = [threading.Thread(target=self._client, args=(number, urls[number % 2])) for number in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def _client(self, number: int, url: str) -> None:
        turn = 0
        while not self._over.is_set():
            turn += 1
            begun = time.monotonic()
            status, headers, reply = post(url, "/api/chat", {"message": f"What does client {number} ask in turn {turn}?"})
            ended = time.monotonic()
            told = {"at": ended, "took": ended - begun, "status": status, "session": reply.get("session"),
                    "code": reply.get("code"),
                    "retry_after": "retry-after" in {name.lower() for name in headers}}
            self.sends.append(told)
            status, _, _ = post(url, "/v1/chat/completions", question("What is asked again and again?"))
            self.cached.append(status)
            time.sleep(0.02)

    def end(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


def question(text: str) -> dict:
    return {"model": "mock", "messages": [{"role": "user", "content": text}]}


def round_of(services: Services, urls: list[str], name: str, number: int, away: float) -> dict:
    for url in urls:
        post(url, "/v1/chat/completions", question("What is asked again and again?"))
    load = Load(urls)
    time.sleep(2)
    command = services.stop(name, number)
    time.sleep(away)
    services.start(name, command)
    back = time.monotonic()
    while not any(send["status"] == 200 and send["at"] > back for send in list(load.sends)):
        if time.monotonic() - back > 60:
            break
        time.sleep(0.02)
    first = min((send["at"] - back for send in list(load.sends) if send["status"] == 200 and send["at"] > back), default=None)
    time.sleep(2)
    load.end()
    acknowledged = [send["session"] for send in load.sends if send["status"] == 200]
    lost = [session for session in acknowledged if not any(m["role"] == "user" for m in messages(urls[0], session))]
    return {
        "what": f"{name}, {signal.Signals(number).name}",
        "sends": len(load.sends),
        "acknowledged": len(acknowledged),
        "refused_503": sum(send["status"] == 503 and send["retry_after"] for send in load.sends),
        "other": sorted({f"{send['status']} {send['code']}" for send in load.sends if not is_lawful(send)}),
        "longest_refusal_s": longest(send for send in load.sends if send["code"] == "store_unavailable"),
        "longest_send_s": longest(load.sends),
        "first_success_after_s": None if first is None else round(first, 3),
        "acknowledged_and_lost": len(lost),
        "cached_answers": len(load.cached),
        "cached_answers_failed": sum(status != 200 for status in load.cached),
    }


def is_lawful(send: dict) -> bool:
    return send["status"] == 200 or (send["status"] == 503 and send["retry_after"])


def longest(sends) -> float:
    return round(max((send["took"] for send in sends), default=0.0), 3)


def faults(told: dict) -> list[str]:
    found = []
    if told["other"] or told["acknowledged_and_lost"] or told["cached_answers_failed"] or not told["refused_503"]:
        found.append("an answer of another kind, something lost, or nothing refused")
    if told["longest_refusal_s"] > REFUSED_S or told["longest_send_s"] > SEND_S:
        found.append(f"a refusal took longer than {REFUSED_S} s, or a send than {SEND_S} s")
    if told["first_success_after_s"] is None or told["first_success_after_s"] > RETURN_S:
        found.append(f"no send succeeded within {RETURN_S} s")
    return found


def main() -> int:
    options = argparse.ArgumentParser()
    options.add_argument("--ish-bin", required=True)
    options.add_argument("--provider-bin", required=True)
    options.add_argument("--away", type=float, default=5.0)
    options.add_argument("--report", type=Path)
    options = options.parse_args()
    services = Services()
    rounds = [("postgres", signal.SIGINT), ("postgres", signal.SIGQUIT), ("pgbouncer", signal.SIGKILL)]
    with tempfile.TemporaryDirectory() as folder:
        provider = Provider(options.provider_bin)
        env = services.new_database("outage")
        serve = [options.ish_bin, "serve"]
        of = {name: environment(Path(folder) / name, provider.base_url) | env | {"INSTANCE_ID": name} for name in "ab"}
        programs = [Program(serve, "page", own) for own in of.values()]
        try:
            urls = [program.url.rstrip("/") for program in programs]
            told = [round_of(services, urls, *one, options.away) for one in rounds]
        finally:
            for program in [*programs, provider]:
                program.stop()
    found = {one["what"]: faults(one) for one in told}
    report = {"what": "sends while Postgres or PgBouncer is away, on two instances", "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
              "away_s": options.away, "rounds": told, "faults": found}
    text = json.dumps(report, indent=2)
    print(text)
    if options.report:
        (options.report / f"outage-{report['date'][:10]}.json").write_text(text + "\n")
    return int(any(found.values()))


if __name__ == "__main__":
    sys.exit(main())
