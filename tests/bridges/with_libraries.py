"""Each bridge with the library of its framework: print the scores of TEXTS by each, and what the loops do.

`test_libraries` runs it in an environment that has them. No model is asked: each library has a stand-in.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from typing import Any

import dspy
from inspect_ai import Task, eval  # noqa: A004
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ModelOutput, ModelUsage, get_model
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.graph import START, MessagesState, StateGraph
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.messages import ModelResponse, TextPart
from pydantic_ai.models.function import FunctionModel
from verifiers import v1 as vf

from redraft.bridges import dspy as of_dspy
from redraft.bridges import inspect_ai as of_inspect
from redraft.bridges import langgraph as of_langgraph
from redraft.bridges import pydantic_ai as of_pydantic
from redraft.bridges import verifiers as of_verifiers
from redraft.bridges.judged import checks_of, judged, wait
from redraft.bridges.trl import reward

CHECKS = ("words<=5", "2*contains:rain")
TEXTS = ("It is rain.", "It falls from clouds and it is very wet.", "rain " * 9)
GOOD, BAD = TEXTS[:2]


def by_trl() -> list[float | None]:
    completions = [[{"role": "assistant", "content": text}] for text in TEXTS]
    return reward(*CHECKS)(prompts=["?"] * 3, completions=completions)


def by_dspy() -> list[float]:
    metric = of_dspy.metric(*CHECKS)
    dspy.GEPA(metric=metric, auto="light", reflection_lm=dspy.utils.DummyLM([]))  # it looks at the parameters
    return [metric(dspy.Example(question="?"), dspy.Prediction(answer=text)).score for text in TEXTS]


def refined() -> str:
    model = dspy.utils.DummyLM([{"answer": GOOD}])
    with dspy.context(lm=model):
        module = dspy.Predict("question -> answer")
        return dspy.Refine(module=module, N=2, reward_fn=of_dspy.reward(*CHECKS), threshold=1.0)(
            question="?"
        ).answer


def by_langgraph() -> list[float]:
    node = of_langgraph.node(*CHECKS)
    states = [{"messages": [HumanMessage("?"), AIMessage(text)]} for text in TEXTS]
    return [asyncio.run(node(state))["score"] for state in states]


def run_graph() -> list[str]:
    class State(MessagesState):
        passed: bool

    replies = iter([BAD, GOOD])
    graph = StateGraph(State)
    graph.add_node("model", lambda _: {"messages": [AIMessage(next(replies))]})
    graph.add_node("check", of_langgraph.node(*CHECKS))
    graph.add_edge(START, "model")
    graph.add_edge("model", "check")
    graph.add_conditional_edges("check", of_langgraph.unless_passed("model"))
    made = asyncio.run(graph.compile().ainvoke({"messages": [HumanMessage("?")]}))
    return [message.text for message in made["messages"]]


def by_inspect(text: str, *more: str) -> Any:
    def output(text: str) -> ModelOutput:
        made = ModelOutput.from_content("mock", text)
        made.usage = ModelUsage()  # else it would fetch a tokenizer to count
        return made

    model = get_model("mockllm/model", custom_outputs=[output(each) for each in (text, *more)])
    task = Task(
        dataset=MemoryDataset([Sample(input="?", target="")]),
        solver=of_inspect.revise(*CHECKS, max_revisions=len(more)),
        scorer=of_inspect.checked(*CHECKS),
    )
    with tempfile.TemporaryDirectory() as logs:
        (log,) = eval(task, model=model, log_dir=logs, display="none")
        assert log.samples, log.error
        return log.samples[0]


def by_pydantic() -> list[str]:
    class Answer(BaseModel):
        text: str

    seen: list[str] = []
    replies = iter([BAD, GOOD])

    def reply(messages: Any, _: Any) -> ModelResponse:
        seen.append(str(messages[-1].parts[-1].content))
        return ModelResponse(parts=[TextPart(next(replies))])

    agent = Agent(FunctionModel(reply), retries=1)
    agent.output_validator(of_pydantic.validator(*CHECKS))
    answer = agent.run_sync("?").output
    return [*seen, answer]


def by_verifiers() -> list[float]:
    class Poem(vf.Task):
        short = of_verifiers.reward(*CHECKS)

    scores = []
    for text in TEXTS:
        task = Poem(vf.TaskData(prompt="?"))
        trace = vf.Trace.model_construct(root_reply=text, rewards={}, metrics={}, nodes=[], info={})
        asyncio.run(task.score(trace))
        scores.append(trace.reward)
    return scores


async def by_mcp() -> dict[str, Any]:
    words = ["-m", "redraft", "mcp", "-m", "script:replies.jsonl"]
    server = stdio_client(StdioServerParameters(command=sys.executable, args=words))
    async with Client(server) as client:
        tools = [tool.name for tool in (await client.list_tools()).tools]

        async def call(name: str, **given: Any) -> Any:
            found = await client.call_tool(name, given)
            return found.content[0].text if found.is_error else found.structured_content

        checks = list(CHECKS)
        scores = [(await call("check", answer=text, checks=checks))["score"] for text in TEXTS]
        asked = await call("ask", prompt="Describe rain.", checks=checks)
        refused = await call("check", answer="x", checks=["command:id"])
    return {"tools": tools, "scores": scores, "asked": asked, "refused": refused}


def main() -> None:
    mcp = asyncio.run(by_mcp())
    scores = {
        "judged": [wait(judged(checks_of(CHECKS), text)).score for text in TEXTS],
        "trl": by_trl(),
        "dspy": by_dspy(),
        "langgraph": by_langgraph(),
        "inspect_ai": [by_inspect(text).scores["checked"].value for text in TEXTS],
        "verifiers": by_verifiers(),
        "mcp": mcp.pop("scores"),
    }
    loops = {
        "refined": refined(),
        "graph": run_graph(),
        "solver": [message.text for message in by_inspect(BAD, GOOD).messages],
        "pydantic_ai": by_pydantic(),
        "mcp": mcp,
    }
    print(json.dumps({"scores": scores, "loops": loops}))


if __name__ == "__main__":
    main()
