"""The official Ollama client, pointed at ish as its users would: plain, streamed, tools, errors, leaving."""

from collections.abc import Iterator

import ollama
import pytest
from openai import OpenAI

from conftest import CLIENT_KEY, MODEL
from processes import PATIENCE_S, PROVIDER_KEY, Ish, Provider
from talk import ask


@pytest.fixture
def local(ish: Ish, room: dict[str, str]) -> Iterator[ollama.Client]:
    headers = room | {"authorization": f"Bearer {CLIENT_KEY}"}
    with ollama.Client(host=address(ish), headers=headers, timeout=PATIENCE_S) as client:
        yield client


def address(ish: Ish) -> str:
    return ish.base_url.removesuffix("/v1")


def look(query: str, number: int) -> str:
    """Looks something up.

    Args:
      query: What to look for
      number: How many
    """
    return f"{query}: {number}"


def test_plain(local: ollama.Client, direct: OpenAI, provider: Provider, prompt: str):
    expected = direct.chat.completions.create(model=MODEL, messages=ask(prompt))
    reply = local.chat(model=MODEL, messages=ask(prompt))
    assert reply.message.content == expected.choices[0].message.content
    assert (reply.model, reply.done, reply.done_reason) == (MODEL, True, "stop")
    assert (reply.prompt_eval_count, reply.eval_count) == (
        expected.usage.prompt_tokens,
        expected.usage.completion_tokens,
    )
    assert reply.total_duration > 0 and reply.created_at
    assert provider.calls(prompt)[-1]["authorization"] == f"Bearer {PROVIDER_KEY}"


def test_streamed(local: ollama.Client, direct: OpenAI, prompt: str):
    expected = direct.chat.completions.create(model=MODEL, messages=ask(prompt))
    parts = list(local.chat(model=MODEL, messages=ask(prompt), stream=True))
    assert "".join(part.message.content for part in parts) == expected.choices[0].message.content
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    assert parts[-1].eval_count == expected.usage.completion_tokens


async def test_streamed_by_the_async_client(ish: Ish, room: dict[str, str], prompt: str):
    client = ollama.AsyncClient(host=address(ish), headers=room)
    said = [part.message.content async for part in await client.chat(MODEL, ask(prompt), stream=True)]
    assert "".join(said)


def test_one_cache_for_both_clients(local: ollama.Client, client: OpenAI, provider: Provider, prompt: str):
    first = client.chat.completions.create(model=MODEL, messages=ask(prompt))
    assert local.chat(model=MODEL, messages=ask(prompt)).message.content == first.choices[0].message.content
    assert list(local.chat(model=MODEL, messages=ask(prompt), stream=True))[-1].eval_count == 0
    provider.only_call(prompt)


@pytest.mark.parametrize("streamed", [False, True])
def test_tools_make_the_round_trip(local: ollama.Client, provider: Provider, prompt: str, streamed: bool):
    messages = ask(f"{prompt} [[tool_calls=2 reasoning=2]]")
    if streamed:
        parts = list(local.chat(model=MODEL, messages=messages, tools=[look], stream=True))
        calls = [call for part in parts for call in part.message.tool_calls or []]
        messages.append(ollama.Message(role="assistant", content="", tool_calls=calls))
    else:
        message = local.chat(model=MODEL, messages=messages, tools=[look]).message
        calls = message.tool_calls
        assert message.thinking
        messages.append(message)
    assert [call.function.name for call in calls] == ["look", "look"]
    assert [call.function.arguments["number"] for call in calls] == [0, 1]
    for call in calls:
        result = look(**call.function.arguments)
        messages.append({"role": "tool", "tool_name": call.function.name, "content": result})
    reply = local.chat(model=MODEL, messages=messages, tools=[look])
    assert reply.message.content and reply.done_reason == "stop"
    sent = provider.calls(messages[-1]["content"])[-1]["request"]["messages"]
    ids = [call["id"] for call in sent[1]["tool_calls"]]
    assert [sent[2]["tool_call_id"], sent[3]["tool_call_id"]] == ids


def test_an_image_arrives(local: ollama.Client, provider: Provider, prompt: str):
    png = b"\x89PNG\r\n\x1a\n"
    local.chat(model=MODEL, messages=[{"role": "user", "content": prompt, "images": [png]}])
    url = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    provider.only_call([{"type": "text", "text": prompt}, url])


def test_errors_are_the_clients_own(local: ollama.Client, prompt: str):
    for directive, status in {"fault=rate_limit retry_after=7": 429, "fault=400": 400, "fault=500": 502}.items():
        with pytest.raises(ollama.ResponseError) as caught:
            local.chat(model=MODEL, messages=ask(f"{prompt} [[{directive}]]"))
        assert caught.value.status_code == status
        assert caught.value.error and not caught.value.error.startswith("{")
    with pytest.raises(ollama.ResponseError) as caught:
        local.chat(model="nobody/knows", messages=ask(prompt))
    assert caught.value.status_code == 404 and "nobody/knows" in caught.value.error


def test_an_error_in_the_middle(local: ollama.Client, prompt: str):
    said = []
    with pytest.raises(ollama.ResponseError) as caught:
        for part in local.chat(model=MODEL, messages=ask(f"{prompt} [[fault=error_event after=3]]"), stream=True):
            said.append(part.message.content)
    assert "".join(said) and caught.value.error


def test_leaving_ends_the_call(local: ollama.Client, provider: Provider, prompt: str):
    held = f"{prompt} [[hold=3]]"
    parts = local.chat(model=MODEL, messages=ask(held), stream=True)
    next(parts)
    parts.close()
    provider.wait_for_call(held, "client_gone")


def test_the_models_are_listed(local: ollama.Client):
    assert {"mock", "demo"} <= {model.model for model in local.list().models}


def test_a_model_is_shown(local: ollama.Client):
    shown = local.show(MODEL)
    assert (shown.details.family, shown.capabilities) == ("openai", ["completion"])
    assert shown.modified_at and not shown.license and not shown.modelinfo
    with pytest.raises(ollama.ResponseError) as caught:
        local.show("nobody/knows")
    assert caught.value.status_code == 404 and "nobody/knows" in caught.value.error
