"""The official OpenAI client's Responses API: plain, streamed, tools, errors, leaving."""

import json

import openai
import pytest
from openai import OpenAI

from conftest import MODEL
from processes import Provider
from talk import ask

TOOLS = [
    {
        "type": "function",
        "name": "look",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"query": {"type": "string"}, "number": {"type": "integer"}},
            "required": ["query", "number"],
            "additionalProperties": False,
        },
    }
]


def test_plain(client: OpenAI, direct: OpenAI, prompt: str):
    expected = direct.chat.completions.create(model=MODEL, messages=ask(prompt))
    response = client.responses.create(model=MODEL, input=prompt)
    assert response.output_text == expected.choices[0].message.content
    assert (response.status, response.error, response.model) == ("completed", None, MODEL)
    assert response.usage.output_tokens == expected.usage.completion_tokens
    assert response.usage.total_tokens == expected.usage.total_tokens


def test_streamed(client: OpenAI, direct: OpenAI, prompt: str):
    expected = direct.chat.completions.create(model=MODEL, messages=ask(prompt))
    events = list(client.responses.create(model=MODEL, input=prompt, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert (events[0].type, events[-1].type) == ("response.created", "response.completed")
    said = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert said == events[-1].response.output_text == expected.choices[0].message.content


def test_the_clients_own_accumulator(client: OpenAI, prompt: str):
    with client.responses.stream(model=MODEL, input=prompt) as stream:
        final = stream.get_final_response()
    assert final.output_text and final.status == "completed"


def test_one_cache_with_chat_completions(client: OpenAI, provider: Provider, prompt: str):
    first = client.chat.completions.create(model=MODEL, messages=ask(prompt))
    response = client.responses.create(model=MODEL, input=prompt)
    assert response.output_text == first.choices[0].message.content
    assert response.usage.total_tokens == 0
    provider.only_call(prompt)


@pytest.mark.parametrize("streamed", [False, True])
def test_tools_make_the_round_trip(client: OpenAI, prompt: str, streamed: bool):
    said = ask(f"{prompt} [[tool_calls=2 reasoning=2]]")
    if streamed:
        with client.responses.stream(model=MODEL, input=said, tools=TOOLS) as stream:
            response = stream.get_final_response()
    else:
        response = client.responses.create(model=MODEL, input=said, tools=TOOLS)
    calls = [item for item in response.output if item.type == "function_call"]
    assert [json.loads(call.arguments)["number"] for call in calls] == [0, 1]
    keep = {"reasoning": {"type", "id", "summary", "content"}, "function_call": {"type", "call_id", "name", "arguments"}}
    said += [item.model_dump(include=keep[item.type]) for item in response.output]
    said += [{"type": "function_call_output", "call_id": call.call_id, "output": "red"} for call in calls]
    reply = client.responses.create(model=MODEL, input=said, tools=TOOLS)
    assert reply.status == "completed" and reply.output_text


def test_errors_are_the_clients_own(client: OpenAI, prompt: str):
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model=MODEL, input=prompt, previous_response_id="resp_1")
    assert caught.value.param == "previous_response_id"
    with pytest.raises(openai.NotFoundError):
        client.responses.create(model="nobody/knows", input=prompt)
    with pytest.raises(openai.RateLimitError):
        client.responses.create(model=MODEL, input=f"{prompt} [[fault=rate_limit retry_after=7]]")
    events = list(client.responses.create(model=MODEL, input=f"{prompt} [[fault=error_event after=3]]", stream=True))
    assert events[-1].type == "response.failed" and events[-1].response.error.message


def test_a_retry_after_429(client: OpenAI, provider: Provider, prompt: str):
    provider.plan_next("[[fault=rate_limit retry_after=1]]")
    assert client.with_options(max_retries=1).responses.create(model=MODEL, input=prompt).output_text
    assert len(provider.calls(prompt)) == 2


def test_leaving_ends_the_call(client: OpenAI, provider: Provider, prompt: str):
    held = f"{prompt} [[hold=3]]"
    with client.responses.create(model=MODEL, input=held, stream=True) as stream:
        next(event for event in stream if event.type == "response.output_text.delta")
    provider.wait_for_call(held, "client_gone")
