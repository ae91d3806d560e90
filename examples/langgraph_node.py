"""A node of LangGraph that answers with checks: the next nodes see the best answer, and whether it passed.

pip install langgraph; python langgraph_node.py [MODEL]
"""

import asyncio
import sys
from typing import Any

from langchain_core.messages import AIMessage, convert_to_openai_messages
from langgraph.graph import END, START, MessagesState, StateGraph

import redraft

MODEL = (*sys.argv[1:], "default")[0]


class State(MessagesState):
    passed: bool


async def answer(state: State) -> dict[str, Any]:
    messages = convert_to_openai_messages(state["messages"])
    chain = await redraft.arevise(messages, model=MODEL, checks=["words<=30"], max_tokens=100)
    return {"messages": [AIMessage(chain.answer)], "passed": bool(chain.passed)}


graph = StateGraph(State)
graph.add_node("answer", answer)
graph.add_edge(START, "answer")
graph.add_edge("answer", END)

if __name__ == "__main__":
    asked = {"messages": [{"role": "user", "content": "Describe a lighthouse."}]}
    found = asyncio.run(graph.compile().ainvoke(asked))
    print(found["messages"][-1].content, found["passed"])
