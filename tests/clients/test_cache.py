"""The cache as a client sees it: hits and what they report, and the caller's control over them."""

import openai
import pytest
from openai import OpenAI

from conftest import MODEL
from processes import Provider, wait_until
from talk import ask, content, finish_reasons, pieces


class Asker:
    """Asks and keeps the headers: the reply, its `x-ish-cache` word and all else."""

    def __init__(self, client: OpenAI):
        self.client = client

    def __call__(self, prompt: str, cache: dict | None = None, headers: dict | None = None, **more):
        body = {} if cache is None else {"cache": cache}
        raw = self.client.chat.completions.with_raw_response.create(
            model=MODEL, messages=ask(prompt), extra_body=body, extra_headers=headers, **more
        )
        return raw.parse(), raw.headers

    def word(self, *question, **more) -> str:
        """Only the outcome."""
        return self(*question, **more)[1]["x-ish-cache"]


@pytest.fixture
def asker(client: OpenAI) -> Asker:
    return Asker(client)


# Each answer names its request, so that a repeated text can only come from the cache.
VARY = "[[vary]]"


def test_miss_then_hit(asker: Asker, provider: Provider, prompt: str):
    question = f"{prompt} {VARY}"
    made, miss = asker(question)
    assert miss["x-ish-cache"] == "MISS" and miss["cache-status"].startswith("ish; fwd=miss")
    assert "age" not in miss and not hasattr(made, "ish")
    kept, hit = asker(question)
    assert hit["x-ish-cache"] == "HIT" and hit["x-ish-cache-tier"] == "l1"
    assert kept.choices == made.choices
    assert (kept.object, kept.model) == (made.object, made.model)
    assert kept.id != made.id and kept.created >= made.created
    assert kept._request_id != made._request_id
    provider.only_call(question)


def test_what_a_hit_reports(asker: Asker, prompt: str):
    made, miss = asker(prompt)
    kept, hit = asker(prompt)
    assert (kept.usage.prompt_tokens, kept.usage.completion_tokens, kept.usage.total_tokens) == (0, 0, 0)
    cache = kept.ish["cache"]
    assert cache["saved_usage"] == made.usage.to_dict()
    assert (cache["status"], cache["how"], cache["tier"]) == ("hit", "exact", "l1")
    assert hit["x-ish-cache-key"] == miss["x-ish-cache-key"] == cache["key"]
    assert 0 <= int(hit["age"]) < 3600
    assert hit["cache-status"].startswith("ish; hit; ttl=") and "detail=exact-l1" in hit["cache-status"]
    assert hit["server-timing"].startswith("cache;dur=")
    # What is cached by meaning must not be cached by address on the way.
    assert miss["cache-control"] == hit["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "other",
    [
        "what does the word {} mean?",
        "  what does the   word {} mean ",
        "Please, what does the word {} mean?",
        "What does the word {} mean",
    ],
    ids=["case", "spacing", "please", "mark"],
)
def test_a_normalized_hit(asker: Asker, provider: Provider, other: str):
    made, _ = asker("What does the word herbarium mean?")
    kept, hit = asker(other.format("herbarium"))
    assert hit["x-ish-cache"] == "NORMALIZED_HIT" and "detail=normalized-l1" in hit["cache-status"]
    assert kept.choices == made.choices
    assert kept.ish["cache"]["how"] == "normalized"
    assert provider.calls(other.format("herbarium")) == []


def test_a_semantic_hit(asker: Asker):
    made, _ = asker("How do I undo the last git commit?")

    def found() -> tuple | None:
        # The question is put into the index in the background.
        reply, headers = asker("How can I undo the last git commit?", cache={"mode": "read_only"})
        return (reply, headers) if headers["x-ish-cache"] == "SEMANTIC_HIT" else None

    kept, hit = wait_until(found, lambda: "the other wording hits")
    assert kept.choices == made.choices
    assert 0 < float(hit["x-ish-cache-similarity"]) <= 1
    assert kept.ish["cache"]["similarity"] == pytest.approx(float(hit["x-ish-cache-similarity"]), abs=1e-4)


def test_semantic_can_be_refused(asker: Asker):
    asker("How do I undo the last git commit?")
    other = "How can I undo the last git commit?"
    assert asker.word(other, cache={"semantic": False, "mode": "read_only"}) == "MISS"
    assert asker.word(other, cache={"threshold": 1.0, "mode": "read_only"}) == "MISS"


def test_a_streamed_hit(asker: Asker, prompt: str):
    made, _ = asker(prompt)
    stream, headers = asker(prompt, stream=True, stream_options={"include_usage": True})
    assert headers["x-ish-cache"] == "HIT"
    chunks = list(stream)
    assert content(chunks) == made.choices[0].message.content
    assert pieces(chunks)[0].delta.role == "assistant"
    assert finish_reasons(chunks) == ["stop"]
    assert chunks[0].ish["cache"]["saved_usage"] == made.usage.to_dict()
    assert [chunk.usage.total_tokens for chunk in chunks if chunk.usage] == [0]
    assert chunks[-1].choices == [] and chunks[-1].usage
    assert made.id not in {chunk.id for chunk in chunks}


@pytest.mark.parametrize("wire", ["batched", "bytewise"])
def test_a_streamed_answer_serves_a_plain_question(asker: Asker, prompt: str, wire: str):
    question = f"{prompt} [[wire={wire}]]"
    stream, _ = asker(question, stream=True)
    text = content(list(stream))
    kept, hit = asker(question)
    assert hit["x-ish-cache"] == "HIT"
    assert kept.choices[0].message.content == text
    # The client asked for no count, so the server did.
    assert kept.ish["cache"]["saved_usage"]["total_tokens"] > 0


def test_a_paced_replay(asker: Asker, prompt: str):
    made, _ = asker(prompt)
    stream, headers = asker(prompt, cache={"replay": "paced"}, stream=True)
    chunks = list(stream)
    assert headers["x-ish-cache"] == "HIT" and len(chunks) > 10
    assert content(chunks) == made.choices[0].message.content


@pytest.mark.parametrize(
    "wish",
    [
        {"cache": {"mode": "refresh"}},
        {"cache": {"no-cache": True}},
        {"headers": {"x-ish-cache": "refresh"}},
        {"headers": {"cache-control": "no-cache"}},
    ],
    ids=["body", "litellm", "header", "http"],
)
def test_refresh_makes_the_answer_again(asker: Asker, prompt: str, wish: dict):
    question = f"{prompt} {VARY}"
    old, _ = asker(question)
    new, headers = asker(question, **wish)
    assert headers["x-ish-cache"] == "MISS" and new.choices != old.choices
    kept, hit = asker(question)
    assert hit["x-ish-cache"] == "HIT" and kept.choices == new.choices


@pytest.mark.parametrize(
    "wish", [{"cache": {"mode": "off"}}, {"headers": {"x-ish-cache": "off"}}], ids=["body", "header"]
)
def test_off_neither_reads_nor_writes(asker: Asker, prompt: str, wish: dict):
    assert asker.word(prompt, **wish) == "BYPASS"
    assert asker.word(prompt) == "MISS"
    assert asker.word(prompt, **wish) == "BYPASS"


def test_read_only_and_write_only(asker: Asker, prompt: str):
    assert asker.word(prompt, cache={"mode": "read_only"}) == "MISS"
    assert asker.word(prompt, cache={"no-store": True}) == "MISS"
    assert asker.word(prompt, cache={"mode": "write_only"}) == "MISS"
    assert asker.word(prompt, cache={"mode": "write_only"}) == "MISS"
    assert asker.word(prompt, cache={"mode": "read_only"}) == "HIT"


@pytest.mark.parametrize(
    "wish",
    [
        {"cache": {"mode": "only"}},
        {"headers": {"x-ish-cache": "only"}},
        {"headers": {"cache-control": "only-if-cached"}},
    ],
    ids=["body", "header", "http"],
)
def test_only_if_cached(asker: Asker, provider: Provider, prompt: str, wish: dict):
    patient = Asker(asker.client.with_options(max_retries=2))
    with pytest.raises(openai.InternalServerError) as caught:
        patient(prompt, **wish)
    assert (caught.value.status_code, caught.value.code) == (504, "not_cached")
    # Asking again would not help, whatever the status: the client must not try.
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert provider.calls(prompt) == []
    asker(prompt)
    assert asker.word(prompt, **wish) == "HIT"


def remaining_ttl(headers) -> int:
    """Seconds, from a hit's `Cache-Status: ish; hit; ttl=59; ...`."""
    return int(headers["cache-status"].split("ttl=")[1].split(";")[0])


def test_ttl_ends_an_entry(asker: Asker, prompt: str):
    assert asker.word(prompt, cache={"ttl": 3}) == "MISS"
    _, hit = asker(prompt, cache={"mode": "read_only"})
    assert hit["x-ish-cache"] == "HIT" and remaining_ttl(hit) <= 3
    wait_until(
        lambda: asker.word(prompt, cache={"mode": "read_only"}) == "MISS", lambda: "the entry is three seconds old"
    )


def test_ttl_by_header_and_at_most_the_configured_one(asker: Asker, prompt: str):
    def ttl_of(question: str, **wish) -> int:
        asker(question, **wish)
        return remaining_ttl(asker(question)[1])

    assert 50 < ttl_of(prompt, headers={"x-ish-cache-ttl": "60"}) <= 60
    assert ttl_of(prompt + " Tell me.", cache={"ttl": 10_000_000}) <= 86_400


def test_max_age_refuses_older_answers(asker: Asker, prompt: str):
    asker(prompt)
    assert asker.word(prompt, cache={"mode": "read_only", "max_age": 3600}) == "HIT"
    young = {"mode": "read_only", "max_age": 1}
    wait_until(lambda: asker.word(prompt, cache=young) == "MISS", lambda: "the entry is older than a second")
    assert asker.word(prompt) == "HIT"


def test_namespaces_are_apart(asker: Asker, prompt: str):
    # The body's namespace would lose against the header by which each test has its own room.
    plain = Asker(asker.client.with_options(set_default_headers={}))
    assert plain.word(prompt, cache={"namespace": "red"}) == "MISS"
    assert plain.word(prompt, cache={"namespace": "blue"}) == "MISS"
    assert plain.word(prompt) == "MISS"
    assert plain.word(prompt, cache={"namespace": "red"}) == "HIT"
    assert plain.word(prompt, headers={"x-ish-cache-namespace": "blue"}) == "HIT"


@pytest.mark.parametrize(
    "other",
    [{"temperature": 0.5}, {"seed": 1}, {"max_tokens": 500}, {"response_format": {"type": "json_object"}}, {"n": 2}],
    ids=lambda other: next(iter(other)),
)
def test_another_request_is_no_hit(asker: Asker, prompt: str, other: dict):
    assert asker.word(prompt) == "MISS"
    assert asker.word(prompt, **other) == "MISS"
    assert asker.word(prompt, **other) == "HIT"


def test_an_error_or_a_cut_answer_is_not_kept(asker: Asker, provider: Provider, prompt: str):
    provider.plan_next("[[fault=400]]")
    with pytest.raises(openai.BadRequestError):
        asker(prompt)
    provider.plan_next("[[fault=length]]")
    cut, _ = asker(prompt)
    assert cut.choices[0].finish_reason == "length"
    assert asker.word(prompt) == "MISS"
    assert asker.word(prompt) == "HIT"


WRONG = {
    "cache.mode": {"mode": "sometimes"},
    "cache.ttl": {"ttl": -1},
    "cache.max_age": {"max_age": -1},
    "cache.threshold": {"threshold": 2},
    "cache.no_such_field": {"no_such_field": 1},
}


@pytest.mark.parametrize("param", WRONG)
def test_a_wrong_wish_names_its_field(asker: Asker, prompt: str, param: str):
    with pytest.raises(openai.BadRequestError) as caught:
        asker(prompt, cache=WRONG[param])
    assert caught.value.param == param


@pytest.mark.parametrize("header", ["x-ish-cache", "x-ish-cache-ttl"])
def test_a_wrong_header_names_itself(asker: Asker, prompt: str, header: str):
    with pytest.raises(openai.BadRequestError) as caught:
        asker(prompt, headers={header: "sometimes"})
    assert caught.value.param == header
