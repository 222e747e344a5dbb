"""Simon Willison's `llm`, as a library and as the program, with ish as a model in its `extra-openai-models.yaml`."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import CLIENT_KEY, MODEL
from processes import PATIENCE_S, Ish, Provider

LOOK = '''
def look(query: str, number: int) -> str:
    "Looks something up."
    return f"{query}: red {number}"
'''


class Llm:
    """The program with a user folder of its own."""

    def __init__(self, ish: Ish, folder: Path):
        models = [
            {"model_id": name, "model_name": model, "api_base": ish.base_url, "supports_tools": True, "headers": headers}
            for name, model, headers in [
                ("ish", MODEL, {}),
                ("ish-afresh", MODEL, {"x-ish-cache": "off"}),
                ("nobody", "no-such-model", {}),
            ]
        ]
        # JSON is YAML.
        (folder / "extra-openai-models.yaml").write_text(json.dumps(models))
        self.env = os.environ | {"LLM_USER_PATH": str(folder), "OPENAI_API_KEY": CLIENT_KEY}
        self.env.pop("OPENAI_BASE_URL", None)

    def start(self, *arguments: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "llm", *arguments]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env=self.env, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True)

    def run(self, *arguments: str) -> tuple[int, str, str]:
        child = self.start(*arguments)
        out, err = child.communicate(timeout=2 * PATIENCE_S)
        return child.returncode, out, err

    def answer(self, *arguments: str) -> str:
        code, out, err = self.run(*arguments)
        assert code == 0, err
        return out.rstrip("\n")


@pytest.fixture
def llm(ish: Ish, tmp_path: Path) -> Llm:
    return Llm(ish, tmp_path)


def test_plain_streamed_and_cached(llm: Llm, provider: Provider, prompt: str):
    whole = llm.answer("-m", "ish", "--no-stream", prompt)
    assert len(whole.split()) == 20
    assert llm.answer("-m", "ish-afresh", prompt) == whole
    assert len(provider.calls(prompt)) == 2
    # Streamed, and from the cache.
    assert llm.answer("-m", "ish", prompt) == whole
    assert len(provider.calls(prompt)) == 2


def test_a_conversation_goes_on(llm: Llm, provider: Provider, prompt: str):
    first = llm.answer("-m", "ish", prompt)
    assert llm.answer("-c", f"{prompt} And then?")
    said = provider.only_call(f"{prompt} And then?")["request"]["messages"]
    assert [turn["role"] for turn in said] == ["user", "assistant", "user"]
    assert said[1]["content"] == first


@pytest.mark.parametrize("stream", [[], ["--no-stream"]], ids=["streamed", "plain"])
def test_the_round_trip_of_tools(llm: Llm, provider: Provider, prompt: str, stream: list[str]):
    answer = llm.answer("-m", "ish", *stream, "--functions", LOOK, f"{prompt} [[tool_calls=2]]")
    assert len(answer.split()) == 20
    said = [call["request"]["messages"] for call in provider.log_of(prompt)][-1]
    results = [turn["content"] for turn in said if turn["role"] == "tool"]
    assert [result.split(": ")[1] for result in results] == ["red 0", "red 1"]


FAULTS = {
    "an unknown model": ("nobody", "", "no-such-model"),
    "a rate limit": ("ish", "[[fault=quota]]", "429"),
    "a refusal": ("ish", "[[fault=422]]", "422"),
    "a cut": ("ish", "[[fault=cut after=3]]", "provider"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_is_told_in_a_line(llm: Llm, prompt: str, case: str):
    name, directive, word = FAULTS[case]
    code, _, err = llm.run("-m", name, f"{prompt} {directive}")
    assert code == 1
    assert err.startswith("Error:") and word in err, err


@pytest.mark.parametrize("fault", ["rate_limit retry_after=1", "503"])
def test_its_retry_succeeds(llm: Llm, provider: Provider, prompt: str, fault: str):
    provider.plan_next(f"[[fault={fault}]]")
    assert llm.answer("-m", "ish", prompt)
    assert len(provider.calls(prompt)) == 2


def test_stopping_it_ends_the_call(llm: Llm, provider: Provider, prompt: str):
    question = f"{prompt} [[tokens=10000 each=20ms]]"
    child = llm.start("-m", "ish", question)
    assert child.stdout.read(5)
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=PATIENCE_S)
    provider.wait_for_call(question, "client_gone")
