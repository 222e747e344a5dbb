"""The list of models and single ones, by each name under which a model can be asked for."""

import pytest
from openai import AsyncOpenAI, NotFoundError, OpenAI

EMBEDDER = "all-minilm-l6-v2"


def test_the_list_names_the_providers_models_and_our_own(client: OpenAI):
    models = {model.id: model for model in client.models.list()}
    assert {"mock", "mock-alt", "demo", EMBEDDER} <= models.keys()
    assert {model.object for model in models.values()} == {"model"}
    assert models["mock"].owned_by == "openai"
    assert models[EMBEDDER].owned_by == "ish"


async def test_the_list_by_the_async_client(async_client: AsyncOpenAI):
    assert "mock" in [model.id async for model in async_client.models.list()]


# `provider/model` names any model of a provider, listed or not; the client sends its slash as %2F.
@pytest.mark.parametrize("name", ["mock", "openai/mock", "openai/unlisted", "demo", EMBEDDER])
def test_one_model(client: OpenAI, name: str):
    model = client.models.retrieve(name)
    assert (model.id, model.object) == (name, "model")


@pytest.mark.parametrize("name", ["no-such-model", "no-such-provider/mock", "openai/"])
def test_an_unknown_model(client: OpenAI, name: str):
    with pytest.raises(NotFoundError) as caught:
        client.models.retrieve(name)
    assert caught.value.code == "model_not_found"
