"""What ish does not use passes through untouched, both ways: parameters, tools, and fields that nobody knows."""

import json

import pytest
from openai import OpenAI

from conftest import MODEL
from processes import Provider
from talk import ask, content, finish_reasons, pieces

SCHEMA = {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]}

PARAMETERS = {
    "response_format": {"response_format": {"type": "json_schema", "json_schema": {"name": "w", "schema": SCHEMA}}},
    "logprobs": {"logprobs": True, "top_logprobs": 2},
    "n": {"n": 2},
    "seed": {"seed": 7},
    "stop": {"stop": ["\n", "END"]},
    "sampling": {"temperature": 0.25, "top_p": 0.5, "presence_penalty": -1.5, "logit_bias": {"50256": -100}},
    "limits": {"max_completion_tokens": 5, "reasoning_effort": "low", "service_tier": "flex"},
    "callers": {"user": "u-1", "metadata": {"team": "red"}, "store": False},
    "unknown": {"extra_body": {"brand_new": {"deep": [1, 2.50, None, "ü"]}, "another": "x"}},
}

TOOL = {"type": "function", "function": {"name": "look_up", "description": "Looks up.", "parameters": SCHEMA}}


@pytest.mark.parametrize("name", PARAMETERS)
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_parameters_arrive_and_reply_fields_return(
    client: OpenAI, provider: Provider, prompt: str, name: str, stream: bool
):
    parameters = PARAMETERS[name]
    reply = client.chat.completions.create(model=MODEL, messages=ask(prompt), stream=stream, **parameters)
    extra = (list(reply)[0] if stream else reply).model_extra
    expected = parameters.get("extra_body", parameters)
    arrived = provider.only_call(prompt)["request"]
    assert {field: arrived[field] for field in expected} == expected
    # The provider echoes what it was sent in a field of its own.
    assert extra["echo"] == expected


def test_a_request_arrives_byte_for_byte(client: OpenAI, provider: Provider, prompt: str):
    extra = {"weird": 1.50, "text": "é\u2028", "empty": {}}
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=ask(prompt), extra_body=extra)
    assert provider.only_call(prompt)["body"].encode() == raw.http_request.content


def test_parts_of_a_message_arrive(client: OpenAI, provider: Provider, prompt: str):
    parts = [
        {"type": "text", "text": prompt},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
    ]
    reply = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": parts}])
    assert reply.choices[0].message.content
    assert provider.only_call(parts)["request"]["messages"] == [{"role": "user", "content": parts}]


def test_the_cache_object_stays_here(client: OpenAI, provider: Provider, prompt: str):
    client.chat.completions.create(
        model=MODEL, messages=ask(prompt), extra_body={"cache": {"mode": "refresh"}, "brand_new": 1}
    )
    arrived = provider.only_call(prompt)["request"]
    assert "cache" not in arrived and arrived["brand_new"] == 1


def test_several_choices_and_logprobs(client: OpenAI, prompt: str):
    wish = dict(model=MODEL, messages=ask(prompt), n=2, logprobs=True)
    reply = client.chat.completions.create(**wish)
    texts = [choice.message.content for choice in reply.choices]
    assert len(texts) == 2 and texts[0] != texts[1]
    # From the provider, and as a replay of the kept answer.
    for mode in ("off", "only"):
        chunks = list(client.chat.completions.create(**wish, stream=True, extra_body={"cache": {"mode": mode}}))
        for choice in reply.choices:
            assert content(chunks, choice.index) == choice.message.content
            scored = [piece.logprobs.content for piece in pieces(chunks, choice.index) if piece.logprobs]
            assert sum(scored, []) == choice.logprobs.content != []


def test_a_limit_is_told_apart_from_an_end(client: OpenAI, prompt: str):
    reply = client.chat.completions.create(model=MODEL, messages=ask(prompt), max_tokens=3)
    assert reply.choices[0].finish_reason == "length"
    assert reply.usage.completion_tokens == 3


def test_tools_plain(client: OpenAI, provider: Provider, prompt: str):
    question = f"{prompt} [[tool_calls=2]]"
    reply = client.chat.completions.create(model=MODEL, messages=ask(question), tools=[TOOL], tool_choice="auto")
    arrived = provider.only_call(question)["request"]
    assert (arrived["tools"], arrived["tool_choice"]) == ([TOOL], "auto")
    message = reply.choices[0].message
    assert (reply.choices[0].finish_reason, message.content) == ("tool_calls", None)
    assert [call.function.name for call in message.tool_calls] == ["look_up", "look_up"]
    assert all(isinstance(json.loads(call.function.arguments), dict) for call in message.tool_calls)


@pytest.mark.parametrize("cache", [{"mode": "off"}, {"mode": "on"}], ids=["off", "on"])
def test_tools_streamed(client: OpenAI, direct: OpenAI, prompt: str, cache: dict):
    wish = dict(model=MODEL, messages=ask(f"{prompt} [[tool_calls=2]]"), tools=[TOOL])
    whole = direct.chat.completions.create(**wish).choices[0].message.tool_calls
    # Twice: where the cache is on, the second stream is a replay of the first.
    for _ in range(2):
        chunks = list(client.chat.completions.create(**wish, stream=True, extra_body={"cache": cache}))
        assert finish_reasons(chunks) == ["tool_calls"]
        calls = [call for piece in pieces(chunks) for call in piece.delta.tool_calls or []]
        for index, expected in enumerate(whole):
            mine = [call for call in calls if call.index == index]
            assert mine[0].function.name == expected.function.name
            assert "".join(call.function.arguments or "" for call in mine) == expected.function.arguments


def test_a_round_with_a_tools_result(client: OpenAI, provider: Provider, prompt: str):
    messages = ask(f"{prompt} [[tool_calls=1]]")
    asked = client.chat.completions.create(model=MODEL, messages=messages, tools=[TOOL]).choices[0].message
    call = asked.tool_calls[0]
    # The assistant's turn goes back as the client's own object, as its users do it.
    result = f"the result for {prompt}"
    messages += [asked, {"role": "tool", "tool_call_id": call.id, "content": result}]
    answer = client.chat.completions.create(model=MODEL, messages=messages, tools=[TOOL])
    assert answer.choices[0].finish_reason == "stop" and answer.choices[0].message.content
    arrived = provider.only_call(result)["request"]["messages"]
    assert arrived[1]["tool_calls"][0]["id"] == arrived[2]["tool_call_id"] == call.id
