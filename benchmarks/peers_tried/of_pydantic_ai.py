"""pydantic-ai."""

import asyncio

from pydantic import BaseModel
from pydantic_ai import Agent, BinaryContent, ModelRetry, PromptedOutput, UsageLimits
from pydantic_ai.exceptions import UnexpectedModelBehavior, UsageLimitExceeded
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.models.test import TestModel
from pydantic_ai.providers.openai import OpenAIProvider
from tried import Replies, call_of, main, tries

ADA = '{"name": "Ada", "born": 1815}'
LONG = "Rain is wet and cold."


class Person(BaseModel):
    name: str
    born: int


def agent(server: Replies, *replies: object, **options: object) -> Agent:
    server.says(*replies)
    return Agent(
        OpenAIChatModel("m", provider=OpenAIProvider(base_url=server.url, api_key="none")), **options
    )


@tries("an object of a pydantic type")
def _(server: Replies) -> None:
    found = agent(server, ADA, output_type=PromptedOutput(Person)).run_sync("Who?").output
    assert found == Person(name="Ada", born=1815)


def checked(server: Replies, *replies: str, retries: int = 2) -> Agent:
    own = agent(server, *replies, retries=retries)

    @own.output_validator
    def few(text: str) -> str:
        if len(text.split()) > 3:
            raise ModelRetry("at most three words")
        return text

    return own


@tries("a function of yours as a check")
@tries("a failed answer goes back with what is wrong")
def _(server: Replies) -> None:
    assert checked(server, LONG, "Rain.").run_sync("Describe rain.").output == "Rain."
    assert "at most three words" in server.last


@tries("the best answer is kept if none passes")
def _(server: Replies) -> None:
    try:
        checked(server, LONG, retries=1).run_sync("Describe rain.")
    except UnexpectedModelBehavior as error:
        raise AssertionError(f"it raises: {error}") from None


@tries("another model criticises")
@tries("a model judges an answer by a sentence")
def _(server: Replies) -> str:
    own, judge = agent(server, "Go!"), agent(server, "Go!", '{"ok": false}', "Please go.", '{"ok": true}')

    @own.output_validator
    async def polite(text: str) -> str:
        if "false" in (await judge.run(f"Is it polite? {text}")).output:
            raise ModelRetry("be polite")
        return text

    assert own.run_sync("Tell me to go.").output == "Please go."
    return "a second agent within a validator of yours; a judge of its own is in pydantic-evals"


@tries("tools are called, and their results go back")
def _(server: Replies) -> None:
    own = agent(server, call_of("weather", {"place": "Kent"}), "It is wet.")

    @own.tool_plain
    def weather(place: str) -> str:
        return f"rain in {place}"

    assert own.run_sync("Weather?").output == "It is wet."
    assert "rain in Kent" in server.last


@tries("a conversation of several turns")
def _(server: Replies) -> None:
    own = agent(server, "Hello.")
    first = own.run_sync("Hi.")
    own.run_sync("Again.", message_history=first.all_messages())
    assert len(server.requests[-1]["messages"]) == 3


@tries("pictures in a prompt")
def _(server: Replies) -> None:
    agent(server, "A dot.").run_sync(["What?", BinaryContent(b"\x89PNG", media_type="image/png")])
    assert "image_url" in server.last


@tries("partial objects while they are written")
def _(server: Replies) -> None:
    async def parts() -> list[object]:
        own = agent(server, ADA, output_type=PromptedOutput(Person))
        async with own.run_stream("Who?") as run:
            return [part async for part in run.stream_output(debounce_by=None)]

    assert asyncio.run(parts())


@tries("a text while it is written")
@tries("async")
def _(server: Replies) -> None:
    async def parts() -> list[str]:
        async with agent(server, LONG).run_stream("Describe rain.") as run:
            return [part async for part in run.stream_text(delta=True, debounce_by=None)]

    assert len(asyncio.run(parts())) > 1


@tries("protocols of providers other than OpenAI's")
def _(server: Replies) -> str:
    from importlib.util import find_spec

    assert find_spec("pydantic_ai.models.anthropic")
    return "its modules are there; no provider was asked"


@tries("a graph of steps with kept state")
def _(server: Replies) -> str:
    from pydantic_graph import BaseNode

    assert BaseNode
    return "by pydantic-graph, which comes with it"


@tries("a budget of tokens for one answer")
def _(server: Replies) -> str:
    try:
        agent(server, LONG).run_sync("Describe rain.", usage_limits=UsageLimits(total_tokens_limit=5))
    except UsageLimitExceeded:
        return "it raises when the budget is exceeded, and the text is lost"
    raise AssertionError


@tries("every draft is kept, with what was said of it")
def _(server: Replies) -> str:
    said = str(checked(server, LONG, "Rain.").run_sync("Describe rain.").all_messages())
    assert LONG in said
    assert "at most three words" in said
    return "as messages"


@tries("a busy server is asked again")
def _(server: Replies) -> None:
    assert agent(server, 429, "Rain.").run_sync("Describe rain.").output == "Rain."


@tries("tests without a model")
def _(server: Replies) -> None:
    assert Agent(TestModel(custom_output_text="Rain.")).run_sync("Describe rain.").output == "Rain."


@tries("traces by OpenTelemetry")
def _(server: Replies) -> None:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    from pydantic_ai.models.instrumented import InstrumentationSettings

    seen, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(seen))
    Agent.instrument_all(InstrumentationSettings(tracer_provider=provider))
    agent(server, "Rain.").run_sync("Describe rain.")
    Agent.instrument_all(False)
    assert seen.get_finished_spans()


@tries("the model criticises itself, then revises")
def _(server: Replies) -> str:
    own = agent(server, LONG, "Say less.", "Rain.")
    first = own.run_sync("Describe rain.")
    second = own.run_sync("Criticise that.", message_history=first.all_messages())
    assert own.run_sync("Revise it.", message_history=second.all_messages()).output == "Rain."
    return "as three calls of yours"


LACKS = {
    "a budget of money": "`UsageLimits(cost_limit=…)`, not tried",
    "the next text is chosen by what failed": "",
    "a program of fixed text and generated parts": "",
    "replies are cached in a file": "",
    "a command for the terminal": "`clai`, a package of its own, not tried",
    "a web page to chat": "`clai web`, not tried",
    "keys for users": "",
    "tools for agents by MCP": "it uses tools of MCP servers, not tried",
    "a judge compares two models, in both orders": "",
    "a share of answers as a test of pytest": "",
    "training on chains of answer, criticism and revision": "",
    "instructions are generated from seeds": "",
    "conversations are cleaned and deduplicated": "",
    "an API like OpenAI's": "it serves A2A and AG-UI",
    "best of several samples": "",
    "a new draft that is told what failed, without the draft": "",
    "form is mended without the model": "",
    "the invalid part is filtered out": "",
    "a check steers the model word by word": "",
    "a grammar or regular expression of yours steers": "",
    "searches such as trees or majority votes": "",
    "prompts are optimised on examples": "",
    "goes on after kill -9 without paying twice": "by Temporal, DBOS or Prefect, not tried",
    "a file of prompts becomes a file of answers": "",
    "published tasks, scored": "",
    "scores with intervals": "",
    "votes by people": "",
    "deltas of weights, GGUF files": "",
    "the API's answers are checked and revised": "",
    "a whole system by one recipe, resumed": "",
}

if __name__ == "__main__":
    main(LACKS)
