"""The official OpenAI client talks to providers of other dialects through ish, and need not know it."""

import json
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from openai import OpenAI

from conftest import CLIENT_KEY
from processes import PATIENCE_S, Ish, Provider
from talk import ask, content

DIALECTS = ["anthropic", "gemini", "ollama"]

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "look",
            "strict": True,
            "parameters": {
                "type": "object",
                "properties": {"query": {"type": "string"}, "number": {"type": "integer"}},
                "required": ["query", "number"],
                "additionalProperties": False,
            },
        },
    }
]


@pytest.fixture(scope="module")
def polyglot(request: pytest.FixtureRequest, ish_bin: Path) -> Iterator[Ish]:
    """A server whose providers are one program in three dialects; its log is not the one that other tests read."""
    provider = Provider(request.config.getoption("--provider-bin"))
    address = {name: provider.url for name in ("ANTHROPIC_BASE_URL", "GEMINI_BASE_URL", "OLLAMA_HOST")}
    server = Ish(ish_bin, None, more=address)
    yield server
    server.stop()
    provider.stop()


@pytest.fixture
def client(polyglot: Ish, room: dict[str, str]) -> Iterator[OpenAI]:
    with OpenAI(
        base_url=polyglot.base_url, api_key=CLIENT_KEY, default_headers=room, max_retries=0, timeout=PATIENCE_S
    ) as client:
        yield client


@pytest.mark.parametrize("dialect", DIALECTS)
def test_plain_streamed_and_counted(client: OpenAI, dialect: str, prompt: str):
    model = f"{dialect}/mock"
    wish = {"cache": {"mode": "off"}}
    plain = client.chat.completions.create(model=model, messages=ask(prompt), extra_body=wish)
    chunks = list(
        client.chat.completions.create(
            model=model, messages=ask(prompt), stream=True, stream_options={"include_usage": True}, extra_body=wish
        )
    )
    assert plain.choices[0].message.content == content(chunks)
    assert plain.choices[0].finish_reason == "stop"
    assert chunks[-1].usage == plain.usage and plain.usage.completion_tokens == 20


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_clients_own_accumulator_makes_the_round_trip_of_tools(client: OpenAI, dialect: str, prompt: str):
    messages = ask(f"{prompt} [[tool_calls=2 reasoning=2]]")
    with client.chat.completions.stream(model=f"{dialect}/mock", messages=messages, tools=TOOLS) as stream:
        message = stream.get_final_completion().choices[0].message
    first, second = message.tool_calls
    assert json.loads(first.function.arguments)["number"] == 0
    # The client has read the arguments by the tool's strict schema.
    assert second.function.parsed_arguments["number"] == 1
    assert first.id and first.id != second.id
    messages += [
        message.model_dump(exclude_none=True, exclude={"parsed": True, "tool_calls": {"__all__": {"index"}}}),
        {"role": "tool", "tool_call_id": first.id, "content": "red"},
        {"role": "tool", "tool_call_id": second.id, "content": '{"colour": "blue"}'},
    ]
    reply = client.chat.completions.create(model=f"{dialect}/mock", messages=messages, tools=TOOLS)
    assert reply.choices[0].finish_reason == "stop" and reply.choices[0].message.content


@pytest.mark.parametrize("dialect", DIALECTS)
def test_errors_are_the_clients_own(client: OpenAI, dialect: str, prompt: str):
    def create(text: str, **more):
        return client.chat.completions.create(model=f"{dialect}/mock", messages=ask(text), **more)

    with pytest.raises(openai.RateLimitError) as caught:
        create(f"{prompt} [[fault=rate_limit retry_after=7]]")
    assert caught.value.response.headers["retry-after"] == "7"
    with pytest.raises(openai.RateLimitError) as caught:
        create(f"{prompt} [[fault=quota]]")
    assert caught.value.code == "insufficient_quota"
    with pytest.raises(openai.BadRequestError) as caught:
        create(prompt, logit_bias={"50256": -100})
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "logit_bias")
    assert dialect in caught.value.message
    with pytest.raises(openai.APIError):
        list(create(f"{prompt} [[fault=error_event after=3]]", stream=True))
