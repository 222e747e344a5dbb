"""What an operator sees: a real Prometheus and a real Alertmanager on the operators' own files, beside the services of compose.yaml under
load. Every panel's query is asked; then the provider is taken away, and the alert arrives where Alertmanager is told to send it.
All times of the rules, the scrapes and the messages are a thirtieth of what the files say, so that hours are minutes. Grafana itself is
not run here: there is none in the system's packages; its dashboards are read as it reads them, by their JSON."""

import json
import re
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from asking import Load
from compose import REPOSITORY
from processes import PATIENCE_S, Program, wait_until
from stack import VARIABLES, Stack, free_port

#: How much faster time goes in the files.
FASTER = 30
#: Grafana's $__rate_interval would be four scrapes; this is [5m], hurried.
INTERVAL = f"{300 // FASTER}s"

#: What nothing but trouble or another instance brings about: no series, so that a panel says zero. (That such a series exists in the
#: program, by this name, is held by tests/it/metrics_described.rs.)
RARE = {
    "ish_alert_messages_total",
    "ish_cache_changes_followed_total",
    "ish_cache_changes_lag_seconds",
    "ish_cache_errors_total",
    "ish_flights_followed_total",
    "ish_limits_wait_seconds",
    "ish_logins_total",
    "ish_profile_busy_seconds_total",
    "ish_profile_duration_seconds",
    "ish_provider_fallbacks_total",
    "ish_provider_retries_refused_total",
    "ish_stream_pieces_followed_total",
    "ish_target_breaker_transitions_total",
    "ish_tasks_ended_total",
    "ish_workflows_ended_total",
    "ish_ws_closes_total",
    "ish_ws_refused_total",
}

RULES = yaml.safe_load((REPOSITORY / "prometheus" / "prometheus.rules.yml").read_text())
ALERTS = [rule for group in RULES["groups"] for rule in group["rules"] if "alert" in rule]
DASHBOARDS = sorted((REPOSITORY / "grafana" / "dashboards").glob("*.json"))


class Receiver:
    """A webhook that keeps what it is told."""

    def __init__(self):
        told = self.told = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                told.extend(json.loads(self.rfile.read(int(self.headers["content-length"])))["alerts"])
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"

    def of(self, name: str, status: str) -> dict | None:
        return next((alert for alert in self.told if (alert["labels"]["alertname"], alert["status"]) == (name, status)), None)

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Provider(Program):
    """One that can go away and come back at the same address."""

    def __init__(self, binary: Path, port: int):
        super().__init__([binary, "provider", "--listen", f"127.0.0.1:{port}"], "listening on")


class Asker(threading.Thread):
    """Asks in every way that leaves a trace in the metrics, until it is told to end."""

    def __init__(self, stack: Stack):
        super().__init__(daemon=True)
        self.stack, self.over, self.rounds = stack, threading.Event(), 0
        new = {"name": "slow", "requests_per_minute": 2, "tokens_per_minute": 100000}
        self.limited = stack.ask("/api/admin/keys", new)[2]["key"]

    def run(self) -> None:
        while not self.over.is_set():
            self.play()
            self.rounds += 1
            time.sleep(0.1)

    def play(self) -> None:
        number = f"{self.rounds}-{id(self)}"
        self.chat("How do I undo the last git commit?")
        self.chat("How can I undo the last git commit?")
        self.chat(f"What is lot {number}? [[tokens=20 each=2ms]]", stream=True, stream_options={"include_usage": True})
        self.chat(f"What is lot {number}? [[tokens=20 each=2ms]]")
        self.chat(f"What is bypassed in {number}?", cache={"mode": "off"})
        if self.rounds % 5 == 0:
            self.chat(f"What fails at first in {number}? [[fault=reset]]", cache={"mode": "off"})
        self.chat(f"Who may ask {number}?", key=self.limited)
        self.stack.ask("/v1/embeddings", {"model": "minilm", "input": f"a text {number}"})
        self.stack.ask("/api/tasks", {"kind": "ish.tidy", "arguments": {}})
        self.stack.ask("/api/sessions")

    def chat(self, prompt: str, key: str | None = None, **more) -> None:
        body = {"model": "mock", "messages": [{"role": "user", "content": prompt}], **more}
        headers = {"authorization": f"Bearer {key or VARIABLES['ADMIN_KEY']}", "content-type": "application/json"}
        url = f"http://127.0.0.1:{self.stack.ports['nginx']}/v1/chat/completions"
        request = urllib.request.Request(url, data=json.dumps(body).encode(), headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as reply:
                reply.read()
        except OSError:
            # Refused by the limit, or the provider is away: both are meant.
            pass


class Watched:
    """The stack, its provider, and those who watch it."""

    def __init__(self, ish_bin: Path, provider_bin: Path, folder: Path):
        self.provider_bin, self.port = provider_bin, free_port()
        self.provider = Provider(provider_bin, self.port)
        self.receiver = Receiver()
        self.stack = Stack(["compose.yaml"], folder, f"http://127.0.0.1:{self.port}/v1", ish_bin)
        prices = folder / "prices.toml"
        prices.write_text("[mock]\ninput = 1.0\noutput = 10.0\n")
        # The breaker's times are hurried like the rest.
        self.stack.more = {
            "ISH_PRICES_FILE": str(prices),
            "ISH_BREAKER_FAILURES": "5",
            "ISH_BREAKER_OPEN": "0.2",
            "ISH_BREAKER_MAX_OPEN": "2",
        }

    def start(self) -> "Watched":
        self.stack.start()
        self.stack.start_alertmanager(self.receiver.url, FASTER)
        self.stack.start_prometheus(FASTER)
        return self

    def stop(self) -> None:
        self.stack.stop()
        self.provider.stop()
        self.receiver.stop()

    def query(self, expr: str) -> list[dict]:
        return self.asked("query", {"query": expr})["result"]

    def asked(self, what: str, words: dict) -> dict:
        url = f"http://127.0.0.1:{self.stack.ports['prometheus']}/api/v1/{what}?{urllib.parse.urlencode(words)}"
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as reply:
            return json.load(reply)["data"]

    def has_data(self, expr: str) -> bool:
        return any(sample["value"][1] not in ("NaN", "+Inf", "-Inf") for sample in self.query(expr))

    def firing(self) -> set[str]:
        return {sample["metric"]["alertname"] for sample in self.query('ALERTS{alertstate="firing"}')}


@pytest.fixture(scope="module")
def watched(ish_bin: Path, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    watched = Watched(ish_bin, request.config.getoption("--provider-bin"), tmp_path_factory.mktemp("seen"))
    try:
        yield watched.start()
    finally:
        watched.stop()


class Pressed:
    """Everybody who asks, until they are told to end."""

    def __init__(self, watched: Watched):
        url = f"http://127.0.0.1:{watched.stack.ports['nginx']}"
        self._asker, self._sockets = Asker(watched.stack), Load(url, VARIABLES["ADMIN_KEY"], sockets=1, https=1)
        self._asker.start()

    def end(self) -> None:
        self._asker.over.set()
        self._asker.join()
        self._sockets.end()


@pytest.fixture(scope="module")
def load(watched: Watched) -> Iterator[Pressed]:
    pressed = Pressed(watched)
    yield pressed
    pressed.end()


def queries() -> Iterator[tuple[str, str]]:
    """Every panel's queries as Grafana sends them, with where they stand."""
    for file in DASHBOARDS:
        for panel in json.loads(file.read_text())["panels"]:
            for target in panel["targets"]:
                expr = target["expr"].replace("$__rate_interval", INTERVAL).replace("$instance", ".*")
                assert "$" not in expr, f"a variable that this test does not know: {expr}"
                yield f"{file.stem}: {panel['title']}", expr


def test_every_panel_shows_data(watched: Watched, load: Pressed):
    wanted = list(queries())
    assert len(wanted) > 100

    def without() -> list[tuple[str, str]]:
        return [(where, expr) for where, expr in wanted if not watched.has_data(expr)]

    wait_until(lambda: not without(), lambda: f"every panel has data: {without()}")
    # A line at zero does not count where it stands in for a series: those must be there, but for what is rare.
    bare = [(where, expr.removesuffix(" or vector(0)")) for where, expr in wanted if expr.endswith(" or vector(0)")]

    def missing() -> list[tuple[str, str]]:
        common = [(where, expr) for where, expr in bare if not is_rare(expr)]
        return [(where, expr) for where, expr in common if not watched.has_data(expr)]

    wait_until(lambda: not missing(), lambda: f"what is not rare has series: {missing()}")


def is_rare(expr: str) -> bool:
    # Results of queries are kept for service code only, which there is none of here.
    return bool(set(metrics(expr)) & RARE) or 'cache="queries"' in expr


def metrics(expr: str) -> list[str]:
    return [re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"\b(?:ish|gen_ai|process)_\w+", expr)]


def test_the_rules_are_evaluated_and_nothing_is_wrong(watched: Watched, load: Pressed):
    def evaluated() -> bool:
        rules = [rule for group in watched.asked("rules", {})["groups"] for rule in group["rules"]]
        assert len([rule for rule in rules if rule["type"] == "alerting"]) == len(ALERTS)
        assert [rule for rule in rules if rule["health"] == "err"] == []
        return all(rule["health"] == "ok" for rule in rules)

    wait_until(evaluated, lambda: "every rule was evaluated")
    # The load has one question in fifty fail on purpose, and a busy machine may be slow; nothing is away.
    away = {"IshDown", "IshAbsent", "IshAllProvidersDown", "IshBreakerOpen", "IshRedisDown", "IshTierFailing", "IshPoolTimeouts"}
    assert watched.firing() & away == set()


def test_a_provider_that_goes_away_is_told_and_so_is_its_return(watched: Watched, load: Pressed):
    watched.provider.stop()
    alert = wait_until(
        lambda: watched.receiver.of("IshAllProvidersDown", "firing"),
        lambda: f"the alert arrives; firing are {watched.firing()}, told was {watched.receiver.told}",
    )
    assert alert["labels"]["severity"] == "critical" and alert["labels"]["job"] == "ish"
    assert alert["annotations"]["summary"] == "No provider has answered a question for minutes"
    assert alert["annotations"]["runbook_url"] == "docs/runbooks.md#ishallprovidersdown"
    wait_until(lambda: "IshProviderFailing" in watched.firing(), lambda: f"it fires, too: {watched.firing()}")
    watched.provider = Provider(watched.provider_bin, watched.port)
    wait_until(
        lambda: watched.receiver.of("IshAllProvidersDown", "resolved"),
        lambda: f"its end arrives; firing are {watched.firing()}, told was {watched.receiver.told}",
    )


def test_an_instance_that_dies_is_told(watched: Watched, load: Pressed):
    # It is the only one: who went on asking would find nobody.
    load.end()
    watched.stack.ish["ish"].stop()
    alert = wait_until(
        lambda: watched.receiver.of("IshDown", "firing"), lambda: f"the alert arrives; firing are {watched.firing()}"
    )
    assert alert["labels"]["instance"] == f"127.0.0.1:{watched.stack.ports['ish']}"


def test_each_alert_has_a_runbook_and_tests_of_both_kinds():
    names = [alert["alert"] for alert in ALERTS]
    assert len(names) == len(set(names)) > 40
    sections = re.findall(r"^## (\w+)$", (REPOSITORY / "docs" / "runbooks.md").read_text(), re.MULTILINE)
    assert sections == names, "a section each, in the rules' order"
    for alert in ALERTS:
        assert alert["labels"]["severity"] in ("critical", "warning", "info"), alert
        assert alert["annotations"]["runbook_url"] == f"docs/runbooks.md#{alert['alert'].lower()}"
        assert alert["annotations"]["summary"]
    tests = yaml.safe_load((REPOSITORY / "prometheus" / "prometheus.tests.yml").read_text())["tests"]
    for name, severity in [(alert["alert"], alert["labels"]["severity"]) for alert in ALERTS]:
        checks = next(test for test in tests if test["name"] == name)["promql_expr_test"]
        fires = [f'alertname="{name}", severity="{severity}"' in str(check["exp_samples"]) for check in checks]
        assert True in fires and False in fires, name


def test_the_dashboards_are_whole():
    assert [file.stem for file in DASHBOARDS] == ["cache", "chat", "overview", "providers", "runtime", "tasks"]
    titles = set()
    for file in DASHBOARDS:
        board = json.loads(file.read_text())
        assert board["uid"] == f"ish-{file.stem}" and board["title"] not in titles
        titles.add(board["title"])
        taken = set()
        for panel in board["panels"]:
            assert panel["description"] and panel["fieldConfig"]["defaults"]["unit"], panel["title"]
            place = panel["gridPos"]
            cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
            assert not cells & taken and max(x for x, _ in cells) < 24, f"{file.stem}: {panel['title']} lies on another"
            taken |= cells
        assert [variable["name"] for variable in board["templating"]["list"]] == ["datasource", "instance"]
