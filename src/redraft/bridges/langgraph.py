"""Checks as a node of LangGraph, and the edge that leads back to the model while they fail.

`graph.add_node("check", node("words<=50"))`
`graph.add_conditional_edges("check", unless_passed("model"))`
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from redraft.bridges.judged import Given, checks_of, judged, missing

try:
    from langchain_core.messages import HumanMessage, convert_to_openai_messages
    from langgraph.graph import END
except ModuleNotFoundError:
    raise missing("langgraph") from None

State = Mapping[str, Any]


def node(*checks: Given) -> Callable[[State], Coroutine[Any, Any, dict[str, Any]]]:
    """Return a node that judges the last message of `messages`.

    It sets `passed` and `score`, which your state may have. If a check fails, it adds what is wrong as a
    message.
    """
    parsed = checks_of(checks)

    async def check(state: State) -> dict[str, Any]:
        *before, last = state["messages"]
        found = await judged(parsed, last.text, convert_to_openai_messages(before))
        wrong = [HumanMessage(found.feedback)] if not found.passed else []
        return {"messages": wrong, "passed": found.passed, "score": found.score}

    return check


def unless_passed(back: str, *, most: int = 2) -> Callable[[State], str]:
    """Return an edge: to the node `back` while the last check failed, for at most so many revisions."""

    def route(state: State) -> str:
        revisions = sum(message.type == "ai" for message in state["messages"]) - 1
        return END if state["passed"] or revisions >= most else back

    return route
