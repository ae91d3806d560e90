"""Each recipe of docs/bridges.md with its library: print the scores of TEXTS by each, and what the loops do.

`test_libraries` runs it in an environment that has them, beside the blocks of the page as modules named
`on_…`. No model is asked: each library has a stand-in.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
from typing import Any

import dspy
import on_dspy
import on_inspect_ai
import on_langgraph
import on_pydantic_ai
import on_trl
import on_verifiers
from inspect_ai import eval  # noqa: A004
from inspect_ai.model import ModelOutput, ModelUsage, get_model
from langchain_core.messages import AIMessage, HumanMessage
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from pydantic_ai.messages import ModelResponse, TextPart
from pydantic_ai.models.function import FunctionModel
from verifiers import v1 as vf

from redraft.integrations.judged import checks_of, judged, wait

CHECKS = ("words<=8", "contains:rain")
TEXTS = ("It is rain.", "It falls from clouds and it is very wet.", "rain " * 9)
GOOD, BAD = TEXTS[:2]


def by_trl() -> list[float]:
    completions = [[{"role": "assistant", "content": text}] for text in TEXTS]
    return on_trl.reward(prompts=["?"] * 3, completions=completions, checks=[None] * 3)


def by_dspy() -> list[float]:
    example = dspy.Example(question="?")
    return [on_dspy.metric(example, dspy.Prediction(answer=text)).score for text in TEXTS]


def refined() -> str:
    with dspy.context(lm=dspy.utils.DummyLM([{"answer": GOOD}])):
        return on_dspy.short(question="?").answer


def graph_of(*replies: str) -> list[str]:
    class Model:
        given = iter(replies)

        def invoke(self, _: Any) -> AIMessage:
            return AIMessage(next(self.given))

    on_langgraph.model = Model()
    made = asyncio.run(on_langgraph.graph.compile().ainvoke({"messages": [HumanMessage("?")]}))
    return [message.text for message in made["messages"]]


def by_inspect(*replies: str) -> Any:
    def output(text: str) -> ModelOutput:
        made = ModelOutput.from_content("mock", text)
        made.usage = ModelUsage()  # else it would fetch a tokenizer to count
        return made

    model = get_model("mockllm/model", custom_outputs=[output(each) for each in replies])
    with tempfile.TemporaryDirectory() as logs:
        (log,) = eval(on_inspect_ai.task, model=model, log_dir=logs, display="none")
        assert log.samples, log.error
        return log.samples[0]


def by_pydantic() -> list[str]:
    seen: list[str] = []
    replies = iter([BAD, GOOD])

    def reply(messages: Any, _: Any) -> ModelResponse:
        seen.append(str(messages[-1].parts[-1].content))
        return ModelResponse(parts=[TextPart(next(replies))])

    with on_pydantic_ai.agent.override(model=FunctionModel(reply)):
        answer = on_pydantic_ai.agent.run_sync("?").output
    return [*seen, answer]


def by_verifiers() -> list[float]:
    scores = []
    for text in TEXTS:
        task = on_verifiers.Poem(vf.TaskData(prompt="?"))
        trace = vf.Trace.model_construct(root_reply=text, rewards={}, metrics={}, nodes=[], info={})
        asyncio.run(task.score(trace))
        scores.append(trace.reward)
    return scores


async def by_mcp() -> dict[str, Any]:
    words = ["-m", "redraft", "mcp", "-m", "script:replies.jsonl"]
    async with Client(stdio_client(StdioServerParameters(command=sys.executable, args=words))) as client:
        tools = [tool.name for tool in (await client.list_tools()).tools]

        async def call(name: str, **given: Any) -> Any:
            found = await client.call_tool(name, given)
            return found.content[0].text if found.is_error else found.structured_content

        checks = list(CHECKS)
        scores = [(await call("check", answer=text, checks=checks))["score"] for text in TEXTS]
        asked = await call("ask", prompt="Describe rain.", checks=checks)
        refused = [await call("check", answer="x", checks=given) for given in (["command:id"], [])]
        refused.append(await call("ask", prompt="x", checks=["wrds<3"]))
    words[-1] = "nope.gguf"
    early = await asyncio.create_subprocess_exec(sys.executable, *words, stderr=subprocess.PIPE)
    refused.append((await early.communicate())[1].decode())
    return {"tools": tools, "scores": scores, "asked": asked, "refused": refused}


def main() -> None:
    mcp = asyncio.run(by_mcp())
    scores = {
        "judged": [wait(judged(checks_of(CHECKS), text)).score for text in TEXTS],
        "trl": by_trl(),
        "dspy": by_dspy(),
        "inspect_ai": [by_inspect(text, text).scores["checked"].value for text in TEXTS],
        "verifiers": by_verifiers(),
        "mcp": mcp.pop("scores"),
    }
    loops = {
        "refined": refined(), "graph": graph_of(BAD, GOOD), "stubborn": graph_of(*[BAD] * 9),
        "solver": [message.text for message in by_inspect(BAD, GOOD).messages],
        "pydantic_ai": by_pydantic(), "mcp": mcp,
    }  # fmt: skip
    print(json.dumps({"scores": scores, "loops": loops}))


if __name__ == "__main__":
    main()
