"""Owns `loadtest`'s scenarios over a real server: their reports, pictures and exit statuses. How fast anything is decides nothing here."""

import json
import subprocess
import xml.etree.ElementTree as xml
from pathlib import Path

import pytest

from processes import Ish, Provider

#: Targets that any machine meets.
PATIENT = ["--p50-ms", "60000", "--p95-ms", "60000", "--p99-ms", "60000", "--success", "0"]
#: The same but for one that none meets.
MISSED = ["--p50-ms", "0.000001", *PATIENT[2:]]
#: A deadline for runs of a few seconds.
RUN_S = 180


@pytest.fixture
def loadtest(request: pytest.FixtureRequest, tmp_path: Path):
    """Runs a verb; returns its exit status, what it prints and says, and its report."""
    binary = request.config.getoption("--provider-bin")

    def run(verb: str, *arguments: str) -> tuple[int, str, dict | None]:
        command = [binary, verb, *arguments, "--reports", tmp_path, "--as", "tried"]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=RUN_S)
        reports = list(tmp_path.glob("tried-*.json"))
        report = json.loads(reports[0].read_text()) if reports else None
        return ran.returncode, ran.stdout + ran.stderr, report

    return run


def root(ish: Ish) -> str:
    return ish.url.removesuffix("/v1")


def picture(folder: Path) -> list[str]:
    """The texts of the run's picture, which is well-formed."""
    (path,) = folder.glob("tried-*.svg")
    return [element.text for element in xml.parse(path).iter("{http://www.w3.org/2000/svg}text")]


def is_judged(status: int, said: str, report: dict) -> bool:
    """Whether status, words and report say the same."""
    missed = [target for target in report["targets"] if not target["met"]]
    overall = "FAIL" if missed else "PASS"
    return report["overall"] == overall and f"overall: {overall}" in said and status == (1 if missed else 0)


def test_load_stands_beside_its_floor(loadtest, ish_bin: Path, tmp_path: Path) -> None:
    few = ["--users", "4", "--rate", "40", "--seconds", "2", "--warm-up-seconds", "0.2", "--cores", "100"]
    status, said, report = loadtest("load", "--ish-bin", ish_bin, "--ask", "pass", "--stream", *few, *PATIENT)
    assert report is not None and is_judged(status, said, report), said
    server = report["results"]["server"]
    assert server["good"] > 0 and server["bad"] == 0 and set(server["kinds"]) == {"BYPASS"}, said
    p50 = next(target for target in report["targets"] if target["name"] == "p50 of a reply")
    assert p50["met"] and p50["ratio"] == pytest.approx(p50["measured"] / p50["floor"])
    assert "Time of a reply" in picture(tmp_path)


def test_a_target_that_is_missed_is_a_failure_with_advice(loadtest, ish: Ish) -> None:
    closed = ["--closed", "--users", "2", "--seconds", "1", "--warm-up-seconds", "0"]
    status, said, report = loadtest("load", "--url", f"{ish.url}/chat/completions", *closed, *MISSED)
    assert status == 1 and is_judged(status, said, report), said
    assert len(report["recommendations"]) == 1 and report["recommendations"][0] in said


def test_any_url_can_be_loaded(loadtest, ish: Ish, tmp_path: Path) -> None:
    few = ["--users", "2", "--rate", "20", "--seconds", "1", "--warm-up-seconds", "0"]
    status, said, report = loadtest("load", "--url", f"{root(ish)}/livez", "--method", "GET", *few, *PATIENT)
    assert report["results"]["server"]["good"] > 0 and is_judged(status, said, report), said
    payload = tmp_path / "payload.json"
    payload.write_text(json.dumps({"message": "Why is the sea salt?"}))
    status, said, report = loadtest("load", "--url", f"{root(ish)}/api/chat", "--payload", payload, "--header", "x-ish-cache=off", *few, *PATIENT)
    assert report["results"]["server"]["good"] > 0 and is_judged(status, said, report), said


@pytest.mark.parametrize(
    "arguments",
    [
        ["load"],
        ["load", "--url", "http://192.0.2.1:9/"],
        ["load", "--url", "http://127.0.0.1:1/"],
        ["load", "--url", "http://127.0.0.1:1/", "--rate", "5", "--closed"],
        ["stress", "--url", "http://127.0.0.1:1/", "--step-users", "0"],
        ["gather", "/nowhere"],
    ],
)
def test_what_cannot_be_measured_is_neither_passed_nor_failed(loadtest, arguments: list[str]) -> None:
    status, said, report = loadtest(*arguments)
    assert (status, report) == (2, None), said


def test_stress_goes_up_until_the_last_step_or_a_miss(loadtest, ish_bin: Path, tmp_path: Path) -> None:
    steps = ["--step-users", "2", "--users", "4", "--per-user", "5", "--seconds", "1", "--warm-up-seconds", "0"]
    status, said, report = loadtest("stress", "--ish-bin", ish_bin, "--ask", "hit", *steps, *PATIENT)
    assert is_judged(status, said, report), said
    assert [step["users"] for step in report["results"]["steps"]] == [2, 4]
    assert all(step["floor"]["good"] > 0 for step in report["results"]["steps"])
    assert "Answered" in picture(tmp_path)
    status, said, report = loadtest("stress", "--ish-bin", ish_bin, *steps, *MISSED)
    assert status == 1 and [step["users"] for step in report["results"]["steps"]] == [2], said


def test_a_cache_is_asked_in_many_words_and_its_answers_belong_to_them(loadtest, ish_bin: Path) -> None:
    status, said, report = loadtest("cache", "--ish-bin", ish_bin, "--seconds", "3", "--warm-up-seconds", "2", "--rate", "30", "--hits", "0")
    assert is_judged(status, said, report), said
    server = report["results"]["server"]
    assert "HIT" in server["kinds"] and "MISS" in server["kinds"], said
    assert not server["wrong_replies"], said


def test_beyond_what_a_server_takes_the_rest_is_refused_in_time(loadtest, ish_bin: Path) -> None:
    # One at a time, each of which takes a while: what is beyond that is known.
    slow = ["--ask", "pass", "--first-token-ms", "50", "--in-flight", "1", "--waiting", "0"]
    few = ["--peak-seconds", "2", "--seconds", "3", "--warm-up-seconds", "0.5"]
    status, said, report = loadtest("overload", "--ish-bin", ish_bin, *slow, *few)
    assert is_judged(status, said, report), said
    refused = report["results"]["overload"]["refused"]
    assert refused["count"] > 0 and refused["without_retry_after"] == 0, said
    assert set(report["results"]["overload"]["wrong_statuses"]) == {"503"}, said


def test_idle_sockets_and_streams_are_measured(loadtest, ish_bin: Path) -> None:
    few = ["--idle", "50", "--streams", "5", "--per-second", "5", "--seconds", "4"]
    status, said, report = loadtest("sockets", "--ish-bin", ish_bin, *few)
    assert is_judged(status, said, report), said
    sockets = report["results"]["sockets"]
    assert sockets["deltas"]["count"] == 5 * 5 * 4 and sockets["floor"]["count"] == 5 * 5, said
    assert sockets["idle"]["open_files"] - sockets["before"]["open_files"] >= 50, said


def test_endurance_makes_trouble_and_the_server_lets_go_of_it(loadtest, ish_bin: Path) -> None:
    short = ["--seconds", "8", "--warm-up-seconds", "4", "--rate", "20", "--settle-seconds", "60"]
    status, said, report = loadtest("endurance", "--ish-bin", ish_bin, *short)
    assert is_judged(status, said, report), said
    endured = report["results"]["endurance"]
    assert endured["failing"]["sent"] > 0 and endured["left"] > 0 and endured["cancelled"] > 0, said
    assert {kind for kind, _ in endured["answered"]} == {"questions", "past the cache", "streams past the cache"}
    assert all(told["good"] > 0 for _, told in endured["answered"]), said
    names = {target["name"] for target in report["targets"]}
    assert "tasks left after all have gone" in names, said


def test_reports_are_gathered_to_one_table(loadtest, ish: Ish, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    few = ["--users", "2", "--rate", "20", "--seconds", "1", "--warm-up-seconds", "0", *PATIENT]
    loadtest("load", "--url", f"{root(ish)}/livez", "--method", "GET", *few)
    whole = tmp_path / "whole"
    whole.mkdir()
    command = [request.config.getoption("--provider-bin"), "gather", tmp_path, "--reports", whole, "--commit", "abc"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=RUN_S)
    (path,) = whole.glob("bench-*.json")
    report = json.loads(path.read_text())
    assert report["setup"]["commit"] == "abc" and "| tried: load | p50 of a reply |" in said.stdout, said
