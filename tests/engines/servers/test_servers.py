"""redraft with servers that nobody here wrote: llama.cpp's own and `transformers serve`.

What is said here of a server holds for the version that is installed. Where a server leaves out what it was
asked for (a schema, tools, images or log-probabilities), redraft must get along with that.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import BaseModel

import redraft
from redraft.chain import Chain, read_jsonl
from redraft.engines.base import Message, Sampling
from redraft.engines.load import load_engine
from redraft.errors import ContextError, ServerError
from tests.cli import verbs
from tests.engines.servers.processes import ServerProcess
from tests.engines.talking import called

pytestmark = [pytest.mark.slow, pytest.mark.model]

ALL = pytest.mark.parametrize("server", ["llama", "transformers"], indirect=True)
LLAMA = pytest.mark.parametrize("server", ["llama"], indirect=True)

HI: list[Message] = [{"role": "user", "content": "Hi"}]
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAA"
    "AABJRU5ErkJggg=="
)
PICTURE = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": PIXEL}}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather of a town.",
        "parameters": {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]},
    },
}


class Person(BaseModel):
    name: str
    born: int


def revised(prompt: Any, model: str, **options: Any) -> Chain:
    few = {"max_tokens": 40, "max_revisions": 0, "temperature": 0}
    return redraft.revise(prompt, model=model, **(few | options))


@ALL
@pytest.mark.parametrize("mode", ["prompted", "native"])
def test_a_question(server: ServerProcess, mode: str) -> None:
    few = ["--max-tokens", "30", "--max-revisions", "0", "--temperature", "0"]
    asked = verbs.redraft("ask", "Describe rain.", "--model", server.model, "--mode", mode, *few)
    assert asked.exit_code == 0, asked.output
    assert "rain" in asked.stdout.lower()


@LLAMA
@pytest.mark.parametrize("wish", [{"checks": ["lacks:mouse"]}, {"output": Person}])
def test_a_patch_goes_on_behind_what_stands_before_it(server: ServerProcess, wish: dict[str, Any]) -> None:
    owls = ("Owls hunt at night and see well.", "A mouse is what they like.", "They live in barns and woods.")
    ada = ('{"name": "Ada Lovelace of London", "born":', '"long ago"', "}")
    before, gone, behind = ada if "output" in wish else owls
    answer = f"{before} {gone} {behind}"
    chain = revised(
        "Ada or owls?", server.model, given=answer, temperature=0.7, max_revisions=1, seed=1, **wish
    )
    assert chain.steps[1].patch
    assert chain.answer.startswith(before)
    assert chain.answer.endswith(behind)


@LLAMA
def test_a_value_is_valid_at_once(server: ServerProcess) -> None:
    chain = revised("Name a mathematician.", server.model, output=Person)
    assert isinstance(chain.value, Person)
    assert len(chain.steps) == 1


@pytest.mark.parametrize("server", ["transformers"], indirect=True)
def test_a_value_where_the_server_leaves_out_the_schema(server: ServerProcess) -> None:
    chain = revised("Name a mathematician.", server.model, output=Person, max_revisions=1)
    assert isinstance(chain.value, Person) == bool(chain.passed)
    assert chain.value is not None or len(chain.steps) == 2


@pytest.mark.parametrize("server", ["llama_tools"], indirect=True)
def test_a_tool_is_called_and_its_result_is_used(server: ServerProcess) -> None:
    messages = called("Ulm") + called("Bern") + [{"role": "user", "content": "What is the weather in Rome?"}]
    chain = revised(messages, server.model, tools=[WEATHER])
    assert chain.stop == "tool_calls"
    (call,) = chain.steps[-1].tool_calls
    assert call["function"] == {"name": "weather", "arguments": '{"town": "Rome"}'}
    messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
    messages.append({"role": "tool", "tool_call_id": call["id"], "content": "rainy"})
    chain = revised(messages, server.model, tools=[WEATHER])
    assert chain.answer == "It is raining in Rome."


@LLAMA
def test_a_picture_for_a_model_without_eyes_is_refused(server: ServerProcess) -> None:
    with pytest.raises(ServerError) as refused:
        revised([{"role": "user", "content": PICTURE}], server.model)
    assert "image input is not supported" in refused.value.message


@LLAMA
def test_a_prompt_that_is_too_long(server: ServerProcess) -> None:
    with pytest.raises(ContextError) as refused:
        revised("rain " * 3000, server.model)
    assert refused.value.prompt_tokens > 3000
    assert refused.value.context == 2048


@LLAMA
@pytest.mark.parametrize("debug", [[], ["--debug"]])
def test_a_wrong_key(server: ServerProcess, debug: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = "sk-wrong-key-1357924680"
    monkeypatch.setenv(server.key_variable, wrong)
    asked = verbs.redraft(*debug, "ask", "Hi", "--model", server.model)
    assert asked.exit_code == 3
    assert f"refuses the key from {server.key_variable} (" in asked.stderr
    assert f"export {server.key_variable}=…" in asked.stderr
    assert wrong not in asked.output


async def surprise(model: str) -> list[float]:
    sampling = Sampling(temperature=0, max_tokens=8, logprobs=True)
    async with aclosing(await load_engine(model)) as engine:
        return [number async for delta in engine.chat(HI, sampling) for number in delta.logprobs]


@LLAMA
def test_log_probabilities_are_those_of_the_server(server: ServerProcess) -> None:
    asyncio.run(surprise(server.model))  # from here on, the prompt is in the server's cache
    found = asyncio.run(surprise(server.model))
    body = {"model": "small", "messages": HI, "temperature": 0, "max_tokens": 8, "logprobs": True}
    headers = {"Authorization": f"Bearer {server.key}"}
    address = f"{server.url}/chat/completions"
    reply = httpx.post(address, json=body, headers=headers, trust_env=False, timeout=60).json()
    tokens = reply["choices"][0]["logprobs"]["content"]
    assert len(tokens) == 8
    assert found == [token["logprob"] for token in tokens]


@ALL
def test_a_restart_in_the_middle_of_a_job_loses_nothing(server: ServerProcess, tmp_path: Path) -> None:
    prompts, out = tmp_path / "prompts.txt", tmp_path / "out.jsonl"
    prompts.write_text("".join(f"Write a story about {n} birds.\n" for n in range(2, 12)))
    few = ["--max-tokens", "40", "--max-revisions", "0", "--temperature", "0"]
    job = ["answer", prompts, "-o", out, "-m", server.model, "-j", "2", "--retries", "1", "--patience", "100"]
    with verbs.start(*job, *few) as running:
        verbs.wait_until(lambda: out.exists() and out.read_bytes().count(b"\n") >= 3, 120)
        server.kill()
        time.sleep(1)
        server.start()
        printed, said = running.communicate(timeout=200)
    assert running.returncode == 0, printed + said
    chains: list[Chain] = list(read_jsonl(out))
    assert sorted(int(chain.id.rpartition("/")[2]) for chain in chains) == list(range(10))
    assert {chain.steps[-1].finish for chain in chains} <= {"stop", "max_tokens"}
    assert all(chain.answer for chain in chains)
    assert ", waiting " in said
    assert not out.with_name("out.jsonl.errors.jsonl").exists()
