"""Embeddings by the server's own model, in each form in which the client can ask and read."""

import base64
import math
from array import array

import pytest
from openai import AsyncOpenAI, BadRequestError, NotFoundError, OpenAI

MODEL = "all-minilm-l6-v2"
DIMENSIONS = 384
TEXT = "hello world"
#: The same text as OpenAI's cl100k tokens, which is how LangChain sends it.
TOKENS = [15339, 1917]
INPUTS = {"text": TEXT, "texts": [TEXT], "tokens": TOKENS, "token lists": [TOKENS]}


def floats(embedding: list[float] | str) -> list[float]:
    """As 32-bit floats, from numbers or from base64 of little-endian bytes."""
    packed = array("f", base64.b64decode(embedding)) if isinstance(embedding, str) else array("f", embedding)
    return packed.tolist()


def cosine(left: list[float], right: list[float]) -> float:
    """Of unit vectors."""
    return sum(one * other for one, other in zip(left, right, strict=True))


@pytest.mark.parametrize("form", INPUTS)
def test_every_form_gives_the_same_unit_vector(client: OpenAI, form: str):
    reference = floats(client.embeddings.create(model=MODEL, input=TEXT, encoding_format="float").data[0].embedding)
    assert len(reference) == DIMENSIONS
    assert math.isclose(math.hypot(*reference), 1, abs_tol=1e-5)
    # Without a wish the client asks for base64 and decodes it.
    for wish in ({}, {"encoding_format": "float"}, {"encoding_format": "base64"}):
        reply = client.embeddings.create(model=MODEL, input=INPUTS[form], **wish)
        assert [floats(item.embedding) for item in reply.data] == [reference]
        assert (reply.object, reply.model, reply.data[0].object) == ("list", MODEL, "embedding")
        assert reply.usage.prompt_tokens == reply.usage.total_tokens > 0


def test_several_texts_keep_their_order(client: OpenAI):
    texts = ["the first text", "another one", "a third of them"]
    reply = client.embeddings.create(model=MODEL, input=texts)
    assert [item.index for item in reply.data] == [0, 1, 2]
    for text, item in zip(texts, reply.data, strict=True):
        alone = client.embeddings.create(model=MODEL, input=text).data[0].embedding
        assert cosine(alone, item.embedding) > 0.999


async def test_by_the_async_client(async_client: AsyncOpenAI):
    reply = await async_client.embeddings.create(model=MODEL, input=TEXT, dimensions=DIMENSIONS)
    assert len(reply.data[0].embedding) == DIMENSIONS
    assert reply._request_id


def test_another_model_is_not_here(client: OpenAI):
    with pytest.raises(NotFoundError) as caught:
        client.embeddings.create(model="text-embedding-3-small", input=TEXT)
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


@pytest.mark.parametrize("nothing", ["", [], ["text", ""], [[]]], ids=["text", "list", "one of two", "tokens"])
def test_empty_input(client: OpenAI, nothing):
    with pytest.raises(BadRequestError) as caught:
        client.embeddings.create(model=MODEL, input=nothing)
    assert caught.value.param == "input"


def test_tokens_that_nobody_knows(client: OpenAI):
    with pytest.raises(BadRequestError) as caught:
        client.embeddings.create(model=MODEL, input=[4_000_000_000])
    assert caught.value.param == "input"


def test_other_dimensions(client: OpenAI):
    with pytest.raises(BadRequestError) as caught:
        client.embeddings.create(model=MODEL, input=TEXT, dimensions=100)
    assert caught.value.param == "dimensions"
