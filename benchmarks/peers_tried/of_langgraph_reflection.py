"""langgraph-reflection, with langgraph and langchain, which it is made of."""

import asyncio

from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph_reflection import create_reflection_graph
from pydantic import BaseModel
from tried import Replies, call_of, main, tries

LONG = "Rain is wet and cold."


class Person(BaseModel):
    name: str
    born: int


def model(server: Replies, *replies: object) -> ChatOpenAI:
    server.says(*replies)
    return ChatOpenAI(model="m", base_url=server.url, api_key="none")


def answering(own: ChatOpenAI) -> StateGraph:
    graph = StateGraph(MessagesState)
    graph.add_node("model", lambda state: {"messages": [own.invoke(state["messages"])]})
    graph.add_edge(START, "model")
    graph.add_edge("model", END)
    return graph


def revising(server: Replies, reflect: object, *replies: object) -> list[object]:
    judge = StateGraph(MessagesState)
    judge.add_node("judge", reflect)
    judge.add_edge(START, "judge")
    judge.add_edge("judge", END)
    whole = create_reflection_graph(
        answering(model(server, *replies)).compile(), judge.compile(), MessagesState
    ).compile()
    return whole.invoke({"messages": [HumanMessage("Describe rain.")]}, {"recursion_limit": 10})["messages"]


def few(state: MessagesState) -> dict[str, object]:
    if len(state["messages"][-1].content.split()) > 3:
        return {"messages": [HumanMessage("at most three words")]}
    return {}


@tries("a function of yours as a check")
@tries("a failed answer goes back with what is wrong")
def _(server: Replies) -> None:
    assert revising(server, few, LONG, "Rain.")[-1].content == "Rain."
    assert "at most three words" in server.last


@tries("the model criticises itself, then revises")
@tries("another model criticises")
@tries("a model judges an answer by a sentence")
def _(server: Replies) -> str:
    critic = model(server, "x")

    def reflect(state: MessagesState) -> dict[str, object]:
        said = critic.invoke(
            [*state["messages"], HumanMessage("Is it short? Answer yes, or what to change.")]
        )
        return {} if said.content == "yes" else {"messages": [HumanMessage(said.content)]}

    assert revising(server, reflect, LONG, "Say less.", "Rain.", "yes")[-1].content == "Rain."
    return "the critic's prompt and the reading of its verdict are yours"


@tries("the best answer is kept if none passes")
def _(server: Replies) -> str:
    found = revising(server, few, "a b c d", "a b c d e f", "a b c d e", "a b c d e f g")
    assert isinstance(found[-1], AIMessage) or "a b c d" in str(found)
    return "all answers are in the messages; the last one ends the graph, not the best"


@tries("every draft is kept, with what was said of it")
def _(server: Replies) -> None:
    said = [message.content for message in revising(server, few, LONG, "Rain.")]
    assert said == ["Describe rain.", LONG, "at most three words", "Rain."]


@tries("an object of a pydantic type")
def _(server: Replies) -> str:
    own = model(server, '{"name": "Ada", "born": 1815}').with_structured_output(Person, method="json_schema")
    assert own.invoke("Who?").born == 1815
    return "by langchain"


@tries("tools are called, and their results go back")
def _(server: Replies) -> None:
    @tool
    def weather(place: str) -> str:
        """Tell the weather."""
        return f"rain in {place}"

    own = model(server, call_of("weather", {"place": "Kent"}), "It is wet.").bind_tools([weather])
    graph = StateGraph(MessagesState)
    graph.add_node("model", lambda state: {"messages": [own.invoke(state["messages"])]})
    graph.add_node("tools", ToolNode([weather]))
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", tools_condition)
    graph.add_edge("tools", "model")
    found = graph.compile().invoke({"messages": [HumanMessage("Weather?")]})
    assert found["messages"][-1].content == "It is wet."
    assert "rain in Kent" in server.last


@tries("a graph of steps with kept state")
@tries("a conversation of several turns")
def _(server: Replies) -> None:
    graph = answering(model(server, "Hello.")).compile(checkpointer=InMemorySaver())
    here = {"configurable": {"thread_id": "1"}}
    for text in ("Hi.", "Again."):
        graph.invoke({"messages": [HumanMessage(text)]}, here)
    assert len(server.requests[-1]["messages"]) == 3


@tries("goes on after kill -9 without paying twice")
def _(server: Replies) -> str:
    from langgraph.graph.state import CompiledStateGraph

    assert CompiledStateGraph.get_state
    return "a graph goes on from a checkpoint in a database; not tried with a kill"


@tries("pictures in a prompt")
def _(server: Replies) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    model(server, "A dot.").invoke([HumanMessage([{"type": "text", "text": "What?"}, picture])])
    assert "image_url" in server.last


@tries("a text while it is written")
def _(server: Replies) -> None:
    assert len(list(model(server, LONG).stream("Describe rain."))) > 1


@tries("partial objects while they are written")
def _(server: Replies) -> str:
    own = model(server, '{"name": "Ada", "born": 1815}').with_structured_output(
        Person.model_json_schema(), method="json_schema"
    )
    assert len(list(own.stream("Who?"))) > 1
    return "as dictionaries, by langchain"


@tries("async")
def _(server: Replies) -> None:
    assert asyncio.run(model(server, "Rain.").ainvoke("Describe rain.")).content == "Rain."


@tries("a busy server is asked again")
def _(server: Replies) -> None:
    assert model(server, 429, "Rain.").invoke("Describe rain.").content == "Rain."


@tries("tests without a model")
def _(server: Replies) -> None:
    from langchain_core.language_models import FakeListChatModel

    assert FakeListChatModel(responses=["Rain."]).invoke("Describe rain.").content == "Rain."


@tries("protocols of providers other than OpenAI's")
def _(server: Replies) -> str:
    return "by other packages of langchain; no provider was asked"


@tries("a file of prompts becomes a file of answers")
def _(server: Replies) -> str:
    assert len(model(server, "Rain.").batch(["A", "B"])) == 2
    return "a list in parallel; reading and writing files is left to you"


@tries("a budget of tokens for one answer")
def _(server: Replies) -> str:
    assert len(revising(server, few, LONG)) > 3
    return "a limit of steps, not of tokens"


if __name__ == "__main__":
    main()
