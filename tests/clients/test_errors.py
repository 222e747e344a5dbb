"""Errors of each kind, as the client's own exceptions; and its retries, which obey what the server says of them."""

import openai
import pytest
from openai import OpenAI

from conftest import CLIENT_KEY, MODEL
from processes import PATIENCE_S, Ish, Provider
from talk import ask, content


def create(client: OpenAI, prompt: str, **more):
    return client.chat.completions.create(model=MODEL, messages=ask(prompt), **more)


def assert_whole(error: openai.APIStatusError) -> None:
    """The body has OpenAI's four members, and the request can be found in the log."""
    assert {"message", "type", "param", "code"} <= error.body.keys()
    assert error.request_id and error.code and error.body["message"]


def test_an_unknown_model(client: OpenAI, prompt: str):
    for stream in (False, True):
        with pytest.raises(openai.NotFoundError) as caught:
            client.chat.completions.create(model="no-such-model", messages=ask(prompt), stream=stream)
        assert_whole(caught.value)
        assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
        assert "no-such-model" in caught.value.message


BAD = {
    "messages": {"messages": "hello"},
    "messages[0].role": {"messages": [{"role": "robot", "content": "hello"}]},
    "messages[0].content": {"messages": [{"role": "user", "content": 7}]},
    "model": {"model": 7},
    "stream_options": {"extra_body": {"stream_options": 3}},
    "cache.mode": {"extra_body": {"cache": {"mode": "sometimes"}}},
}


@pytest.mark.parametrize("param", BAD)
def test_a_wrong_type_names_its_field(client: OpenAI, param: str):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**({"model": MODEL, "messages": ask("hello")} | BAD[param]))
    assert_whole(caught.value)
    assert caught.value.type == "invalid_request_error"
    assert caught.value.param == param


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_a_rate_limit(client: OpenAI, prompt: str, stream: bool):
    with pytest.raises(openai.RateLimitError) as caught:
        create(client, f"{prompt} [[fault=rate_limit retry_after=7]]", stream=stream)
    assert_whole(caught.value)
    assert caught.value.code == "rate_limit_exceeded"
    assert caught.value.response.headers["retry-after"] == "7"
    assert "x-should-retry" not in caught.value.response.headers


@pytest.mark.parametrize("fault", ["rate_limit retry_after=1", "503", "500", "close"])
def test_the_clients_retry_succeeds(client: OpenAI, provider: Provider, prompt: str, fault: str):
    provider.plan_next(f"[[fault={fault}]]")
    reply = create(client.with_options(max_retries=1), prompt)
    assert reply.choices[0].message.content
    assert len(provider.calls(prompt)) == 2


HOPELESS = {
    "quota": ("[[fault=quota]]", openai.RateLimitError, "insufficient_quota"),
    "refused": ("[[fault=422]]", openai.UnprocessableEntityError, "invalid_request"),
    # The provider's 401 is about the server's key: the caller can do nothing about it, nor shall it learn of it.
    "server's key": ("[[fault=401]]", openai.InternalServerError, "upstream_rejected"),
}


@pytest.mark.parametrize("case", HOPELESS)
def test_what_is_hopeless_is_not_tried_again(client: OpenAI, provider: Provider, prompt: str, case: str):
    directive, kind, code = HOPELESS[case]
    with pytest.raises(kind) as caught:
        create(client.with_options(max_retries=2), f"{prompt} {directive}")
    assert_whole(caught.value)
    assert caught.value.code == code
    assert caught.value.response.headers["x-should-retry"] == "false"
    provider.only_call(f"{prompt} {directive}")


BROKEN = {
    "500": (502, "server_error"),
    "503": (503, "overloaded"),
    "close": (502, "upstream_error"),
    "reset": (502, "upstream_error"),
    "garbage": (502, "upstream_error"),
    "cut": (502, "upstream_error"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_provider(client: OpenAI, prompt: str, fault: str):
    status, code = BROKEN[fault]
    with pytest.raises(openai.InternalServerError) as caught:
        create(client, f"{prompt} [[fault={fault}]]")
    assert_whole(caught.value)
    assert (caught.value.status_code, caught.value.code) == (status, code)


@pytest.mark.parametrize("fault", ["500", "503", "close", "content_type", "garbage", "rate_limit"])
def test_a_stream_that_never_begins_has_a_status(client: OpenAI, prompt: str, fault: str):
    with pytest.raises(openai.APIStatusError) as caught:
        create(client, f"{prompt} [[fault={fault}]]", stream=True)
    assert_whole(caught.value)


# The provider's own words are passed on; where it said nothing, the code is ours.
MID_STREAM = {
    "cut after=3": "upstream_error",
    "early_end after=3": "upstream_error",
    "invalid_utf8 after=3": "upstream_error",
    "error_event after=3": "overloaded",
}


@pytest.mark.parametrize("fault", MID_STREAM)
@pytest.mark.parametrize("mode", ["on", "off"])
def test_a_stream_that_breaks_off(client: OpenAI, provider: Provider, prompt: str, fault: str, mode: str):
    question = f"{prompt} [[fault={fault}]]"
    for _ in range(2):
        seen = []
        with pytest.raises(openai.APIError) as caught:
            for chunk in create(client, question, stream=True, extra_body={"cache": {"mode": mode}}):
                seen.append(chunk)
        assert not isinstance(caught.value, (openai.APIStatusError, openai.APIConnectionError))
        assert caught.value.code == MID_STREAM[fault]
        assert caught.value.body["partial"] is True
        assert len(content(seen).split()) == 3
    # Half an answer is never kept: the second asking went upstream again.
    assert len(provider.calls(question)) == 2


def test_the_clients_own_timeout(client: OpenAI, provider: Provider, prompt: str):
    question = f"{prompt} [[hold=0]]"
    with pytest.raises(openai.APITimeoutError):
        create(client.with_options(timeout=0.5), question)
    provider.wait_for_call(question, "client_gone")


def test_an_unreachable_provider(ish_bin, room: dict[str, str], prompt: str):
    # Port 9 (discard) is nobody's on a loopback address.
    server = Ish(ish_bin, "http://127.0.0.1:9/v1")
    try:
        client = OpenAI(base_url=server.base_url, api_key=CLIENT_KEY, max_retries=0, timeout=PATIENCE_S)
        with pytest.raises(openai.InternalServerError) as caught:
            client.chat.completions.create(model="openai/mock", messages=ask(prompt))
        assert_whole(caught.value)
        assert (caught.value.status_code, caught.value.code) == (502, "upstream_unreachable")
        assert "demo" in [model.id for model in client.models.list()]
    finally:
        server.stop()


def test_a_wrong_method_and_a_wrong_path(client: OpenAI):
    with pytest.raises(openai.APIStatusError) as caught:
        client.get("/chat/completions", cast_to=object)
    assert_whole(caught.value)
    assert caught.value.status_code == 405 and "GET" in caught.value.message
    # What is not offered here says so in the same form.
    for call in (client.batches.list, client.files.list):
        with pytest.raises(openai.NotFoundError) as caught:
            call()
        assert_whole(caught.value)
        assert "/v1" in caught.value.message


def test_a_body_that_is_too_large(client: OpenAI):
    with pytest.raises(openai.APIStatusError) as caught:
        create(client, "x" * 10_000_000)
    assert_whole(caught.value)
    assert caught.value.status_code == 413


def test_what_a_provider_quotes_reaches_the_client_and_not_the_log(ish: Ish, client: OpenAI):
    with pytest.raises(openai.APIStatusError) as caught:
        create(client, "[[fault=a_word_that_nobody_may_log]]")
    assert "a_word_that_nobody_may_log" in caught.value.message
    assert caught.value.request_id in ish.output() or "a provider failed" in ish.output()
    assert "a_word_that_nobody_may_log" not in ish.output()
