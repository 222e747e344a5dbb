"""Leaving: when an answer's last listener has gone, the call to the provider ends. The provider's log is the proof."""

import asyncio

import pytest
from openai import AsyncOpenAI, OpenAI

from conftest import MODEL
from processes import Provider, wait_until
from talk import ask, content

#: An answer that would take minutes.
LONG = "[[tokens=10000 each=20ms]]"


def wait_for_outcomes(provider: Provider, question: str, expected: list[str]) -> None:
    def outcomes() -> list[str]:
        return [call["outcome"] for call in provider.calls(question)]

    wait_until(lambda: outcomes() == expected, lambda: f"the calls are {expected}: {outcomes()}")


# With the cache on, the call is a flight that others may join; with it off, it is the caller's own.
MODES = pytest.mark.parametrize("mode", ["on", "off"])


def assert_given_up(provider: Provider, question: str, sent_at_least: int) -> None:
    call = provider.wait_for_call(question, "client_gone")
    assert sent_at_least <= call["tokens_sent"] < 10_000
    provider.only_call(question)


@MODES
def test_closing_a_stream_ends_the_call(client: OpenAI, provider: Provider, prompt: str, mode: str):
    question = f"{prompt} {LONG}"
    wish = {"cache": {"mode": mode}}
    stream = client.chat.completions.create(model=MODEL, messages=ask(question), stream=True, extra_body=wish)
    seen = [next(stream) for _ in range(4)]
    assert content(seen)
    assert provider.only_call(question)["outcome"] == "in_flight"
    stream.close()
    assert_given_up(provider, question, 3)


@MODES
async def test_leaving_the_loop_ends_the_call(async_client: AsyncOpenAI, provider: Provider, prompt: str, mode: str):
    question = f"{prompt} {LONG}"
    wish = {"cache": {"mode": mode}}
    create = async_client.chat.completions.create
    async with await create(model=MODEL, messages=ask(question), stream=True, extra_body=wish) as stream:
        async for chunk in stream:
            if content([chunk]):
                break
    await asyncio.to_thread(assert_given_up, provider, question, 1)


@MODES
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
async def test_cancelling_before_the_answer_ends_the_call(
    async_client: AsyncOpenAI, provider: Provider, prompt: str, mode: str, stream: bool
):
    # Nothing comes before the cancel: neither headers nor a first token.
    question = f"{prompt} [[fault=no_reply]]"
    create = async_client.chat.completions.create(
        model=MODEL, messages=ask(question), stream=stream, extra_body={"cache": {"mode": mode}}
    )
    asking = asyncio.create_task(create)
    await asyncio.to_thread(provider.wait_for_call, question, "in_flight")
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await asyncio.to_thread(provider.wait_for_call, question, "client_gone")


def test_who_stays_gets_the_whole_answer(client: OpenAI, provider: Provider, prompt: str):
    question = f"{prompt} [[tokens=40 each=10ms]]"
    wish = dict(model=MODEL, messages=ask(question), stream=True)
    opener = client.chat.completions.create(**wish)
    begun = next(opener)
    joined = client.chat.completions.with_raw_response.create(**wish)
    assert joined.headers["x-ish-cache"] == "COALESCED"
    opener.close()
    chunks = list(joined.parse())
    assert len(content(chunks).split()) == 40
    assert begun.choices and provider.only_call(question)["outcome"] == "completed"


async def test_plain_and_streamed_callers_share_one_call(async_client: AsyncOpenAI, provider: Provider, prompt: str):
    wish = dict(model=MODEL, messages=ask(f"{prompt} [[tokens=40 each=10ms]]"))

    async def plain() -> str:
        reply = await async_client.chat.completions.create(**wish)
        return reply.choices[0].message.content

    async def streamed() -> str:
        stream = await async_client.chat.completions.create(**wish, stream=True)
        return content([chunk async for chunk in stream])

    texts = await asyncio.gather(*[caller() for caller in [plain, streamed] * 5])
    assert len(set(texts)) == 1 and len(texts[0].split()) == 40
    provider.only_call(wish["messages"][0]["content"])


def test_a_call_that_was_left_is_not_kept(client: OpenAI, provider: Provider, prompt: str):
    question = f"{prompt} {LONG}"
    for calls in (1, 2):
        raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=ask(question), stream=True)
        assert raw.headers["x-ish-cache"] == "MISS"
        stream = raw.parse()
        next(stream)
        stream.close()
        wait_for_outcomes(provider, question, ["client_gone"] * calls)
