"""The files of nginx/ under a real nginx, before two instances: sockets, streams, limits, an instance that dies."""

import gzip
import json
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import websockets.sync.client

from nginx import FILES, KEY, Nginx
from processes import PATIENCE_S, Ish, Provider, wait_until

VARIANTS = ["upstream.conf", "upstream-least-connections.conf", "upstream-weighted.conf", "upstream-sticky.conf"]


@pytest.fixture(scope="module")
def program(request: pytest.FixtureRequest) -> str:
    setup = Path(__file__).resolve().parents[2] / "scripts" / "setup.sh"
    return subprocess.run([setup, "nginx"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


@pytest.fixture
def instances(ish_bin: Path, provider: Provider, tmp_path: Path) -> Iterator[list[Ish]]:
    key = tmp_path / "admin.key"
    key.write_text(KEY)
    started = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        more = {"ISH_ADMIN_KEY_FILE": str(key), "ISH_TRUSTED_PROXIES": "127.0.0.1", "ISH_INSTANCE_ID": name}
        started.append(Ish(ish_bin, provider.base_url, folder, more))
    yield started
    for instance in started:
        instance.stop()


@pytest.fixture
def nginx(program: str, instances: list[Ish], tmp_path: Path) -> Iterator[Nginx]:
    nginx = Nginx(program, tmp_path / "nginx", [address(instance) for instance in instances]).start()
    yield nginx
    nginx.stop()


def address(instance: Ish) -> str:
    return instance.base_url.removesuffix("/v1").removeprefix("http://")


def chat(prompt: str, **more) -> dict:
    return {"model": "mock", "messages": [{"role": "user", "content": prompt}]} | more


@pytest.mark.parametrize("upstream", VARIANTS)
def test_each_way_to_choose_an_instance_is_one_that_nginx_takes(program: str, tmp_path: Path, upstream: str):
    nginx = Nginx(program, tmp_path / "nginx", ["127.0.0.1:1", "127.0.0.1:2"], upstream)
    assert nginx.check() == "ok"


def test_a_sticky_client_stays_and_others_go_around(program: str, instances: list[Ish], tmp_path: Path):
    seen = {}
    for upstream in ("upstream.conf", "upstream-sticky.conf"):
        nginx = Nginx(program, tmp_path / upstream, [address(instance) for instance in instances], upstream).start()
        seen[upstream] = {json.loads(nginx.get("/api/status")[2])["instance"] for _ in range(8)}
        nginx.stop()
    assert seen["upstream.conf"] == {"one", "two"}
    assert len(seen["upstream-sticky.conf"]) == 1


def test_a_streams_deltas_pass_as_they_come(nginx: Nginx, provider: Provider):
    prompt = "[[tokens=9 hold=2]] a stream through nginx"
    request = urllib.request.Request(
        f"{nginx.url}/v1/chat/completions",
        data=json.dumps(chat(prompt, stream=True)).encode(),
        headers={"authorization": f"Bearer {KEY}", "content-type": "application/json", "accept-encoding": "gzip"},
    )
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        assert reply.headers["content-encoding"] is None
        assert any(b'"content":' in line for line in iter(reply.readline, b""))
        # A delta is here although the provider has sent no more than two, and waits.
        assert provider.only_call(prompt)["outcome"] == "in_flight"
    # Nobody listens any longer: nginx says so, and the call ends.
    provider.wait_for_call(prompt, "client_gone")


def test_a_socket_is_upgraded_and_answers(nginx: Nginx):
    with websockets.sync.client.connect(f"ws://127.0.0.1:{nginx.port}/ws", open_timeout=PATIENCE_S) as ws:
        ws.send(json.dumps({"type": "hello", "protocol": 1, "token": KEY}))
        assert json.loads(ws.recv(PATIENCE_S))["type"] == "welcome"
        ws.send(json.dumps({"type": "send", "id": "1", "content": "[[tokens=4]] over a socket through nginx", "model": "mock"}))
        kinds = []
        while not kinds or kinds[-1] not in ("done", "error"):
            kinds.append(json.loads(ws.recv(PATIENCE_S))["type"])
    assert kinds[-1] == "done" and "delta" in kinds


def test_replies_are_compressed_and_files_kept(nginx: Nginx):
    status, headers, body = nginx.get("/app.css", headers={"accept-encoding": "gzip"})
    assert (status, headers["content-encoding"]) == (200, "gzip")
    assert gzip.decompress(body) == nginx.get("/app.css")[2]
    assert nginx.get("/app.css")[1]["x-nginx-cache"] == "HIT"
    # What a key opens is never kept.
    assert nginx.get("/api/status")[1]["x-nginx-cache"] is None
    assert nginx.get("/v1/models", headers={"authorization": "Bearer wrong"})[0] == 401


def test_a_dead_instance_costs_no_request(nginx: Nginx, instances: list[Ish]):
    instances[0].stop()
    answers = [nginx.get("/v1/chat/completions", chat(f"[[tokens=2]] after a death, {n}"))[0] for n in range(12)]
    assert answers == [200] * 12
    assert {json.loads(nginx.get("/api/status")[2])["instance"] for _ in range(4)} == {"two"}


def test_with_no_instance_left_the_refusal_has_the_clients_shape(nginx: Nginx, instances: list[Ish]):
    for instance in instances:
        instance.stop()
    status, headers, body = nginx.get("/v1/chat/completions", chat("is anybody there"))
    assert (status, headers["retry-after"]) == (503, "1")
    assert json.loads(body)["error"]["code"] == "no_instance"
    assert nginx.get("/nginx/livez")[0] == 200


def test_what_ish_says_of_a_provider_takes_no_instance_out(nginx: Nginx):
    refused = [nginx.get("/v1/chat/completions", chat(f"[[fault=reset]] a provider in trouble {n}"))[0] for n in range(8)]
    assert set(refused) == {502}
    assert {json.loads(nginx.get("/api/status")[2])["instance"] for _ in range(8)} == {"one", "two"}


def test_too_many_requests_of_one_address_are_refused_by_nginx(nginx: Nginx):
    replies = [nginx.get("/nginx-limits-this") for _ in range(600)]
    refused = [reply for reply in replies if reply[0] == 429]
    if not refused:
        pytest.fail("600 requests at once and none was refused")
    status, headers, body = refused[0]
    assert json.loads(body)["error"]["code"] == "rate_limited" and headers["retry-after"] == "1"


def test_the_log_holds_no_key_and_no_prompt(nginx: Nginx):
    nginx.get("/v1/chat/completions", chat("[[tokens=1]] a secret thing to ask"), headers={"x-request-id": "of-this-test"})
    line = wait_until(
        lambda: next((line for line in log(nginx) if line["request_id"] == "of-this-test"), None), lambda: "its line"
    )
    assert line["status"] == 200 and line["path"] == "/v1/chat/completions"
    text = (nginx.folder / "access.log").read_text()
    assert KEY not in text and "secret thing" not in text


def log(nginx: Nginx) -> list[dict]:
    return [json.loads(line) for line in (nginx.folder / "access.log").read_text().splitlines()]


def test_below_a_path_of_another_site(program: str, instances: list[Ish], tmp_path: Path):
    nginx = Nginx(program, tmp_path / "nginx", [address(instance) for instance in instances])
    (nginx.folder / "locations.conf").write_text(
        (FILES / "base-path.conf").read_text() + "location = /nginx/livez { return 200; }"
    )
    nginx.start()
    try:
        status, headers, _ = nginx.get("/ish/")
        assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert nginx.get("/ish/v1/chat/completions", chat("[[tokens=2]] below a path"))[0] == 200
        with websockets.sync.client.connect(f"ws://127.0.0.1:{nginx.port}/ish/ws") as ws:
            ws.send(json.dumps({"type": "hello", "protocol": 1, "token": KEY}))
            assert json.loads(ws.recv(PATIENCE_S))["type"] == "welcome"
    finally:
        nginx.stop()
