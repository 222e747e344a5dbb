"""The official Anthropic client, pointed at ish as its users would: plain, streamed, tools, errors, retries, leaving."""

import json
from collections.abc import Iterator
from pathlib import Path

import anthropic
import pytest
from anthropic import Anthropic, AsyncAnthropic
from openai import OpenAI

from conftest import CLIENT_KEY, MODEL
from processes import PATIENCE_S, PROVIDER_KEY, Ish, Provider
from talk import ask

TOOLS = [
    {
        "name": "look",
        "description": "Looks something up.",
        "input_schema": {
            "type": "object",
            "properties": {"query": {"type": "string"}, "number": {"type": "integer"}},
            "required": ["query", "number"],
        },
    }
]


@pytest.fixture
def claude(ish: Ish, room: dict[str, str]) -> Iterator[Anthropic]:
    """The client as users make it, but for the retries: a test that wants them says so."""
    with Anthropic(
        base_url=address(ish), api_key=CLIENT_KEY, default_headers=room, max_retries=0, timeout=PATIENCE_S
    ) as client:
        yield client


def address(ish: Ish) -> str:
    return ish.base_url.removesuffix("/v1")


def create(client: Anthropic, prompt: str, **more) -> anthropic.types.Message:
    return client.messages.create(model=MODEL, max_tokens=100, messages=ask(prompt), **more)


def text(message: anthropic.types.Message) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


def test_plain(claude: Anthropic, direct: OpenAI, provider: Provider, prompt: str):
    expected = direct.chat.completions.create(model=MODEL, messages=ask(prompt))
    message = create(claude, prompt)
    assert (message.type, message.role, message.model) == ("message", "assistant", MODEL)
    assert text(message) == expected.choices[0].message.content
    assert (message.stop_reason, message.stop_sequence) == ("end_turn", None)
    assert message.usage.input_tokens == expected.usage.prompt_tokens
    assert message.usage.output_tokens == expected.usage.completion_tokens
    assert message._request_id
    assert provider.calls(prompt)[-1]["authorization"] == f"Bearer {PROVIDER_KEY}"


def test_streamed(claude: Anthropic, direct: OpenAI, prompt: str):
    expected = direct.chat.completions.create(model=MODEL, messages=ask(prompt))
    with claude.messages.stream(model=MODEL, max_tokens=100, messages=ask(prompt)) as stream:
        said = "".join(stream.text_stream)
        message = stream.get_final_message()
    assert said == text(message) == expected.choices[0].message.content
    assert message.stop_reason == "end_turn"
    assert message.usage.output_tokens == expected.usage.completion_tokens
    assert message.usage.input_tokens == expected.usage.prompt_tokens


async def test_streamed_by_the_async_client(ish: Ish, room: dict[str, str], prompt: str):
    async with AsyncAnthropic(base_url=address(ish), api_key=CLIENT_KEY, default_headers=room) as client:
        stream = await client.messages.create(model=MODEL, max_tokens=100, messages=ask(prompt), stream=True)
        kinds = [event.type async for event in stream]
    assert (kinds[0], kinds[1], kinds[-2:]) == (
        "message_start",
        "content_block_start",
        ["message_delta", "message_stop"],
    )


def test_a_hit_is_seen_and_costs_nothing(claude: Anthropic, provider: Provider, prompt: str):
    first = create(claude, prompt)
    raw = claude.messages.with_raw_response.create(model=MODEL, max_tokens=100, messages=ask(prompt))
    again = raw.parse()
    assert raw.headers["x-ish-cache"] == "HIT"
    assert text(again) == text(first) and again.id != first.id
    assert (again.usage.input_tokens, again.usage.output_tokens) == (0, 0)
    assert again.ish["cache"]["saved_usage"]["completion_tokens"] == first.usage.output_tokens
    with claude.messages.stream(model=MODEL, max_tokens=100, messages=ask(prompt)) as stream:
        assert text(stream.get_final_message()) == text(first)
    provider.only_call(prompt)


def test_one_cache_for_both_clients(claude: Anthropic, client: OpenAI, provider: Provider, prompt: str):
    first = create(claude, prompt, system="Be brief.")
    messages = [{"role": "system", "content": "Be brief."}, *ask(prompt)]
    reply = client.chat.completions.with_raw_response.create(model=MODEL, messages=messages, max_tokens=100)
    assert reply.headers["x-ish-cache"] == "HIT"
    assert reply.parse().choices[0].message.content == text(first)
    provider.only_call(prompt)


@pytest.mark.parametrize("streamed", [False, True])
def test_tools_make_the_round_trip(claude: Anthropic, prompt: str, streamed: bool):
    messages = ask(f"{prompt} [[tool_calls=2 reasoning=2]]")
    wish = {"model": MODEL, "max_tokens": 100, "tools": TOOLS}
    if streamed:
        with claude.messages.stream(messages=messages, **wish) as stream:
            message = stream.get_final_message()
    else:
        message = claude.messages.create(messages=messages, **wish)
    assert message.stop_reason == "tool_use"
    thinking, first, second = message.content
    assert thinking.type == "thinking" and thinking.thinking
    assert (first.type, first.name, first.input["number"], second.input["number"]) == ("tool_use", "look", 0, 1)
    results = [
        {"type": "tool_result", "tool_use_id": first.id, "content": "red"},
        {"type": "tool_result", "tool_use_id": second.id, "content": [{"type": "text", "text": "blue"}]},
    ]
    messages += [{"role": "assistant", "content": message.content}, {"role": "user", "content": results}]
    reply = claude.messages.create(messages=messages, **wish)
    assert reply.stop_reason == "end_turn" and text(reply)


def test_an_image_arrives(claude: Anthropic, provider: Provider, prompt: str):
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}
    content = [image, {"type": "text", "text": prompt}]
    claude.messages.create(model=MODEL, max_tokens=100, messages=[{"role": "user", "content": content}])
    url = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    provider.only_call([url, {"type": "text", "text": prompt}])


def test_errors_are_the_clients_own(claude: Anthropic, ish: Ish, prompt: str):
    for directive, error in {
        "fault=rate_limit retry_after=7": anthropic.RateLimitError,
        "fault=quota": anthropic.RateLimitError,
        "fault=400": anthropic.BadRequestError,
        "fault=500": anthropic.InternalServerError,
        "fault=503": anthropic.InternalServerError,
        "fault=garbage": anthropic.InternalServerError,
    }.items():
        with pytest.raises(error) as caught:
            create(claude, f"{prompt} [[{directive}]]")
        assert caught.value.body["type"] == "error" and caught.value.request_id, directive
        assert caught.value.body["request_id"] == caught.value.request_id
    with pytest.raises(anthropic.NotFoundError) as caught:
        claude.messages.create(model="nobody/knows", max_tokens=1, messages=ask(prompt))
    assert caught.value.body["error"]["type"] == "not_found_error"
    with pytest.raises(anthropic.BadRequestError) as caught:
        create(claude, prompt, tools=[{"type": "web_search_20250305", "name": "web_search"}])
    assert "tools[0].type" in caught.value.body["error"]["message"]


def test_an_error_in_the_middle(claude: Anthropic, prompt: str):
    broken = ask(f"{prompt} [[fault=error_event after=3]]")
    with pytest.raises(anthropic.APIStatusError) as caught:
        with claude.messages.stream(model=MODEL, max_tokens=100, messages=broken) as stream:
            said = []
            for piece in stream.text_stream:
                said.append(piece)
    assert said and caught.value.body["error"]["type"].endswith("_error")


def test_a_retry_after_429(claude: Anthropic, provider: Provider, prompt: str):
    provider.plan_next("[[fault=rate_limit retry_after=1]]")
    assert text(create(claude.with_options(max_retries=1), prompt))
    assert len(provider.calls(prompt)) == 2


def test_what_cannot_succeed_is_not_tried_again(claude: Anthropic, provider: Provider, prompt: str):
    with pytest.raises(anthropic.RateLimitError):
        create(claude.with_options(max_retries=2), f"{prompt} [[fault=quota]]")
    provider.only_call(f"{prompt} [[fault=quota]]")


def test_leaving_ends_the_call(claude: Anthropic, provider: Provider, prompt: str):
    held = f"{prompt} [[hold=3]]"
    with claude.messages.stream(model=MODEL, max_tokens=100, messages=ask(held)) as stream:
        next(iter(stream.text_stream))
    provider.wait_for_call(held, "client_gone")


def test_a_wrong_key(ish_bin: Path, provider: Provider, tmp_path: Path, prompt: str):
    key = tmp_path / "admin.key"
    key.write_text("ish_the_first_key_of_this_test")
    server = Ish(ish_bin, provider.base_url, more={"ISH_ADMIN_KEY_FILE": str(key)})
    try:
        with Anthropic(base_url=address(server), api_key=key.read_text(), max_retries=0) as client:
            assert text(create(client, prompt))
        with Anthropic(base_url=address(server), api_key="ish_wrong", max_retries=0) as client:
            with pytest.raises(anthropic.AuthenticationError) as caught:
                create(client, prompt)
        assert caught.value.body["error"]["type"] == "authentication_error"
    finally:
        server.stop()


@pytest.fixture(scope="module")
def native(request: pytest.FixtureRequest, ish_bin: Path) -> Iterator[tuple[Ish, Provider]]:
    """A server whose provider speaks Anthropic's dialect too."""
    provider = Provider(request.config.getoption("--provider-bin"))
    server = Ish(ish_bin, None, more={"ANTHROPIC_BASE_URL": provider.url, "ANTHROPIC_API_KEY": PROVIDER_KEY})
    yield server, provider
    server.stop()
    provider.stop()


def test_between_equals_nothing_is_lost(native: tuple[Ish, Provider], prompt: str):
    server, provider = native
    mark = {"type": "ephemeral"}
    system = [{"type": "text", "text": "Be brief.", "cache_control": mark}]
    with Anthropic(base_url=address(server), api_key=CLIENT_KEY, max_retries=0) as client:
        messages = ask(f"{prompt} [[reasoning=2]]")
        wish = {"model": "anthropic/mock", "max_tokens": 2000, "system": system, "tools": TOOLS}
        thinking = {"type": "enabled", "budget_tokens": 1024}
        with client.messages.stream(messages=messages, thinking=thinking, **wish) as stream:
            message = stream.get_final_message()
        assert message.content[0].signature == "signed"
        messages += [{"role": "assistant", "content": message.content}, *ask("And then?")]
        client.messages.create(messages=messages, thinking=thinking, **wish)
        counted = client.messages.count_tokens(model="anthropic/mock", messages=ask("How long is this?"))
    assert counted.input_tokens == 4
    sent = json.loads([entry for entry in provider.log() if entry["route"] == "chat"][-1]["body"])
    assert (sent["system"], sent["thinking"]) == (system, thinking)
    assert sent["messages"][1]["content"][0] == message.content[0].model_dump()


def test_tokens_are_counted(claude: Anthropic, provider: Provider, prompt: str):
    short = claude.messages.count_tokens(model=MODEL, messages=ask(prompt))
    long = claude.messages.count_tokens(model=MODEL, messages=ask(f"{prompt} " * 20), system="Be brief.")
    assert 0 < short.input_tokens < long.input_tokens
    assert not provider.calls(prompt)
    with pytest.raises(anthropic.NotFoundError):
        claude.messages.count_tokens(model="nobody/knows", messages=ask(prompt))
