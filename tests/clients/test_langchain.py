"""LangChain's `ChatOpenAI` and `OpenAIEmbeddings`, pointed at ish as their users would."""

from typing import Annotated

import openai
import pytest
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

from conftest import CLIENT_KEY, MODEL
from processes import PATIENCE_S, Ish, Provider


@pytest.fixture
def chat(ish: Ish, room: dict[str, str]) -> ChatOpenAI:
    return model(ish, room)


def model(ish: Ish, room: dict[str, str], retries: int = 0) -> ChatOpenAI:
    return ChatOpenAI(
        model=MODEL,
        base_url=ish.base_url,
        api_key=CLIENT_KEY,
        default_headers=room,
        max_retries=retries,
        timeout=PATIENCE_S,
        stream_usage=True,
    )


def test_plain_and_streamed(chat: ChatOpenAI, prompt: str):
    whole = chat.invoke(prompt)
    assert whole.usage_metadata["output_tokens"] == 20
    assert whole.response_metadata["finish_reason"] == "stop"
    pieces = list(chat.stream(prompt, extra_body={"cache": {"mode": "off"}}))
    assert len(pieces) > 20
    assert "".join(piece.text for piece in pieces) == whole.text
    assert sum(piece.usage_metadata["output_tokens"] for piece in pieces if piece.usage_metadata) == 20


def test_a_batch_and_a_second_asking(chat: ChatOpenAI, provider: Provider, prompt: str):
    first = chat.batch([prompt, f"{prompt} Really?"])
    again = chat.batch([prompt, f"{prompt} Really?"])
    assert [answer.text for answer in first] == [answer.text for answer in again]
    provider.only_call(prompt)
    assert "".join(piece.text for piece in chat.stream(prompt)) == first[0].text
    provider.only_call(prompt)


async def test_from_a_loop(chat: ChatOpenAI, prompt: str):
    whole = await chat.ainvoke(prompt)
    pieces = [piece.text async for piece in chat.astream(prompt)]
    assert "".join(pieces) == whole.text


@tool
def look(query: Annotated[str, "what to look up"], number: int) -> str:
    """Looks something up."""
    return f"{query}: red {number}"


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_the_round_trip_of_tools(chat: ChatOpenAI, provider: Provider, prompt: str, stream: bool):
    question = HumanMessage(f"{prompt} [[tool_calls=2]]")
    able = chat.bind_tools([look])
    asked = able.invoke([question])
    if stream:
        pieces = list(able.stream([question]))
        asked = pieces[0]
        for piece in pieces[1:]:
            asked = asked + piece
    assert [call["args"]["number"] for call in asked.tool_calls] == [0, 1]
    results = [look.invoke(call) for call in asked.tool_calls]
    assert all(isinstance(result, ToolMessage) for result in results)
    answer = able.invoke([question, asked, *results])
    assert answer.text and not answer.tool_calls


def test_errors_are_openais(ish: Ish, chat: ChatOpenAI, room: dict[str, str], prompt: str):
    with pytest.raises(openai.NotFoundError) as caught:
        chat.with_config().bind(model="no-such-model").invoke(prompt)
    assert caught.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as caught:
        chat.invoke(prompt, extra_body={"cache": {"mode": "sometimes"}})
    assert caught.value.param == "cache.mode"
    with pytest.raises(openai.RateLimitError):
        chat.invoke(f"{prompt} [[fault=rate_limit]]")
    with pytest.raises(openai.InternalServerError):
        chat.invoke(f"{prompt} [[fault=503]]")
    with pytest.raises(openai.APIError):
        list(chat.stream(f"{prompt} [[fault=cut after=3]]"))


@pytest.mark.parametrize("fault", ["rate_limit retry_after=1", "503"])
def test_its_retry_succeeds(ish: Ish, room: dict[str, str], provider: Provider, prompt: str, fault: str):
    provider.plan_next(f"[[fault={fault}]]")
    assert model(ish, room, retries=1).invoke(prompt).text
    assert len(provider.calls(prompt)) == 2


def test_leaving_a_stream_ends_the_call(chat: ChatOpenAI, provider: Provider, prompt: str):
    question = f"{prompt} [[tokens=10000 each=20ms]]"
    pieces = chat.stream(question)
    assert any(piece.text for piece in (next(pieces) for _ in range(4)))
    pieces.close()
    provider.wait_for_call(question, "client_gone")


def test_embeddings_by_token_arrays(ish: Ish):
    # LangChain counts and sends tokens; with the length check off it sends the texts.
    wish = {"model": "all-minilm-l6-v2", "base_url": ish.base_url, "api_key": CLIENT_KEY}
    texts = OpenAIEmbeddings(**wish, check_embedding_ctx_length=False)
    first, second = texts.embed_documents(["a cat sat on the mat", "the stock market fell"])
    assert len(first) == len(second) == 384
    assert texts.embed_query("a cat sat on the mat") == pytest.approx(first, abs=1e-6)
