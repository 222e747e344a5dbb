"""Chat completions, plain and streamed: what comes back is what the provider said."""

import json

import pytest
from openai import AsyncOpenAI, OpenAI

from conftest import CLIENT_KEY, MODEL
from processes import PROVIDER_KEY, Ish, Provider
from talk import ask, content, finish_reasons, pieces


def test_plain(client: OpenAI, direct: OpenAI, prompt: str):
    expected = direct.chat.completions.create(model=MODEL, messages=ask(prompt))
    reply = client.chat.completions.create(model=MODEL, messages=ask(prompt))
    assert reply.object == "chat.completion"
    assert reply.choices[0].message.role == "assistant"
    assert reply.choices[0].message.content == expected.choices[0].message.content
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage == expected.usage
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens > 0


def test_the_request_id_is_the_headers(client: OpenAI, prompt: str):
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=ask(prompt))
    assert raw.parse()._request_id == raw.headers["x-request-id"]
    again = client.chat.completions.create(model=MODEL, messages=ask(prompt))
    assert again._request_id and again._request_id != raw.headers["x-request-id"]


def test_a_model_by_its_providers_name(client: OpenAI, provider: Provider, prompt: str):
    client.chat.completions.create(model="openai/mock-alt", messages=ask(prompt))
    assert provider.only_call(prompt)["request"]["model"] == "mock-alt"


def test_streamed_with_usage(client: OpenAI, direct: OpenAI, prompt: str):
    plain = direct.chat.completions.create(model=MODEL, messages=ask(prompt))
    options = {"include_usage": True}
    chunks = list(
        client.chat.completions.create(model=MODEL, messages=ask(prompt), stream=True, stream_options=options)
    )
    assert content(chunks) == plain.choices[0].message.content
    assert pieces(chunks)[0].delta.role == "assistant"
    assert finish_reasons(chunks) == ["stop"]
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk.id for chunk in chunks}) == 1
    counted = [chunk for chunk in chunks if chunk.usage]
    assert counted == [chunks[-1]]
    assert (chunks[-1].choices, chunks[-1].usage) == ([], plain.usage)


def test_streamed_without_usage(client: OpenAI, prompt: str):
    chunks = list(client.chat.completions.create(model=MODEL, messages=ask(prompt), stream=True))
    assert content(chunks)
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)


# The client would forgive a missing end, so the bytes are looked at. Written one by one, no two events come together.
@pytest.mark.parametrize("options", [{"include_usage": True}, {"include_usage": False}, None], ids=repr)
@pytest.mark.parametrize("mode", ["on", "off"])
def test_every_stream_has_its_end(client: OpenAI, prompt: str, mode: str, options: dict | None):
    wish = {"stream": True, "cache": {"mode": mode}} | ({"stream_options": options} if options else {})
    create = client.chat.completions.with_streaming_response.create
    for _ in range(2):
        with create(model=MODEL, messages=ask(f"{prompt} [[wire=bytewise]]"), extra_body=wish) as response:
            lines = [line for line in response.iter_lines() if line]
        assert lines[-1] == "data: [DONE]"
        # Anything but data and comments would break this client.
        assert all(line.startswith(("data: {", ":")) for line in lines[:-1])


@pytest.mark.parametrize("mode", ["on", "off"])
def test_a_streams_cost_is_a_comment_before_its_end(client: OpenAI, prompt: str, mode: str):
    create = client.chat.completions.with_streaming_response.create
    wish = {"stream": True, "stream_options": {"include_usage": True}, "cache": {"mode": mode}}
    with create(model=MODEL, messages=ask(prompt), extra_body=wish) as response:
        *_, usage, cost, end = [line for line in response.iter_lines() if line]
    used = json.loads(usage.removeprefix("data: "))["usage"]
    # The session's server asks a dollar for a million tokens of input, and ten for those of output.
    assert float(cost.removeprefix(": x-ish-cost-usd ")) == pytest.approx(
        (used["prompt_tokens"] + 10 * used["completion_tokens"]) / 1e6
    )
    assert end == "data: [DONE]"


async def test_streamed_by_the_async_client(async_client: AsyncOpenAI, direct: OpenAI, prompt: str):
    plain = direct.chat.completions.create(model=MODEL, messages=ask(prompt))
    stream = await async_client.chat.completions.create(model=MODEL, messages=ask(prompt), stream=True)
    assert content([chunk async for chunk in stream]) == plain.choices[0].message.content


def test_the_clients_own_accumulator(client: OpenAI, direct: OpenAI, prompt: str):
    plain = direct.chat.completions.create(model=MODEL, messages=ask(prompt))
    with client.chat.completions.stream(model=MODEL, messages=ask(prompt)) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.content == plain.choices[0].message.content


def test_lawful_but_awkward_streams(client: OpenAI, direct: OpenAI, prompt: str):
    awkward = f"{prompt} [[wire=crlf,comments,bytewise,nospace]]"
    plain = direct.chat.completions.create(model=MODEL, messages=ask(awkward))
    chunks = list(client.chat.completions.create(model=MODEL, messages=ask(awkward), stream=True))
    assert content(chunks) == plain.choices[0].message.content


def test_a_base_url_without_its_version(client: OpenAI, ish: Ish, prompt: str):
    forgetful = client.with_options(base_url=ish.base_url.removesuffix("/v1"))
    assert forgetful.chat.completions.create(model=MODEL, messages=ask(prompt)).choices[0].message.content
    assert forgetful.models.retrieve("openai/mock").id == "openai/mock"


def test_reasoning_plain_and_streamed(client: OpenAI, prompt: str):
    thoughtful = f"{prompt} [[reasoning=3]]"
    uncached = {"cache": {"mode": "off"}}
    reply = client.chat.completions.create(model=MODEL, messages=ask(thoughtful), extra_body=uncached)
    reasoning = reply.choices[0].message.reasoning_content
    assert reasoning
    for wish in (uncached, {}):
        chunks = list(
            client.chat.completions.create(model=MODEL, messages=ask(thoughtful), stream=True, extra_body=wish)
        )
        assert "".join(getattr(piece.delta, "reasoning_content", "") for piece in pieces(chunks)) == reasoning
        assert content(chunks) == reply.choices[0].message.content


def test_the_demo_needs_no_provider(client: OpenAI, provider: Provider, prompt: str):
    reply = client.chat.completions.create(model="demo", messages=ask(prompt))
    assert reply.choices[0].message.content and reply.choices[0].finish_reason == "stop"
    assert reply.usage.completion_tokens > 0
    assert provider.calls(prompt) == []


def test_the_clients_key_never_reaches_the_provider(client: OpenAI, direct: OpenAI, provider: Provider, prompt: str):
    client.chat.completions.create(model=MODEL, messages=ask(prompt), extra_headers={"x-api-key": CLIENT_KEY})
    streamed = f"{prompt} [[tokens=7]]"
    list(client.chat.completions.create(model=MODEL, messages=ask(streamed), stream=True))
    for question in (prompt, streamed):
        assert provider.only_call(question)["authorization"] == f"Bearer {PROVIDER_KEY}"
    # The list of models was asked for with the server's key, too.
    listed = [entry["authorization"] for entry in provider.log() if entry["route"] == "models"]
    assert set(listed) == {f"Bearer {PROVIDER_KEY}"}
