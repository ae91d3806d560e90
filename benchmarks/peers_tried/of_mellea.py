"""mellea."""

import asyncio
from typing import Any

import mellea
from mellea.stdlib.context import ChatContext
from mellea.stdlib.requirements import req, simple_validate
from mellea.stdlib.sampling import MultiTurnStrategy, RejectionSamplingStrategy, RepairTemplateStrategy
from pydantic import BaseModel
from tried import Replies, main, tries

LONG = "Rain is wet and cold."


class Person(BaseModel):
    name: str
    born: int


def session(server: Replies, *replies: object, **options: Any) -> Any:
    server.says(*replies)
    return mellea.start_session("openai", "m", base_url=server.url, api_key="none", **options)


def few() -> Any:
    return req("At most three words.", validation_fn=simple_validate(lambda text: len(text.split()) <= 3))


@tries("an object of a pydantic type")
def _(server: Replies) -> str:
    found = session(server, '{"name": "Ada", "born": 1815}').instruct("Who?", format=Person)
    assert Person.model_validate_json(str(found)).born == 1815
    return "a text that the type reads"


@tries("a function of yours as a check")
@tries("best of several samples")
def _(server: Replies) -> None:
    own = session(server, LONG, "Rain.")
    found = own.instruct(
        "Describe rain.", requirements=[few()], strategy=RejectionSamplingStrategy(loop_budget=3)
    )
    assert str(found) == "Rain."


@tries("a new draft that is told what failed, without the draft")
def _(server: Replies) -> None:
    own = session(server, LONG, "Rain.")
    found = own.instruct(
        "Describe rain.", requirements=[few()], strategy=RepairTemplateStrategy(loop_budget=3)
    )
    assert str(found) == "Rain."
    assert "At most three words" in server.last
    assert LONG not in server.last


@tries("a failed answer goes back with what is wrong")
def _(server: Replies) -> None:
    own = session(server, LONG, "Rain.", ctx=ChatContext())
    found = own.instruct("Describe rain.", requirements=[few()], strategy=MultiTurnStrategy(loop_budget=3))
    assert str(found) == "Rain."
    assert LONG in server.last


@tries("the best answer is kept if none passes")
def _(server: Replies) -> str:
    own = session(server, "a b c d", "a b c d e")
    found = own.instruct("Describe.", requirements=[few()], strategy=RejectionSamplingStrategy(loop_budget=2))
    assert str(found) == "a b c d"
    return "the first one; another choice is a method that you write"


@tries("a model judges an answer by a sentence")
def _(server: Replies) -> None:
    own = session(server, "Go!", "no", "Please go.", "yes")
    found = own.instruct(
        "Say go.", requirements=[req("It is polite.")], strategy=RejectionSamplingStrategy(loop_budget=3)
    )
    assert len(server.requests) >= 2
    assert str(found) in ("Go!", "Please go.")


@tries("every draft is kept, with what was said of it")
def _(server: Replies) -> None:
    own = session(server, LONG, "Rain.")
    found = own.instruct(
        "Describe rain.",
        requirements=[few()],
        strategy=RejectionSamplingStrategy(loop_budget=3),
        return_sampling_results=True,
    )
    assert len(found.sample_generations) == 2
    assert found.sample_validations


@tries("a conversation of several turns")
def _(server: Replies) -> None:
    own = session(server, "Hello.", ctx=ChatContext())
    own.chat("Hi.")
    own.chat("Again.")
    assert len(server.requests[-1]["messages"]) == 3


@tries("async")
def _(server: Replies) -> None:
    async def asked() -> str:
        return str(await session(server, "Rain.").ainstruct("Describe rain."))

    assert asyncio.run(asked()) == "Rain."


@tries("searches such as trees or majority votes")
def _(server: Replies) -> str:
    from mellea.stdlib.sampling.majority_voting import MajorityVotingStrategyForMath

    assert MajorityVotingStrategyForMath
    return "majority votes on mathematics; not tried"


@tries("protocols of providers other than OpenAI's")
def _(server: Replies) -> str:
    from importlib.util import find_spec

    assert find_spec("mellea.backends.ollama")
    return "Ollama's, watsonx's, and litellm's; not tried"


@tries("a busy server is asked again")
def _(server: Replies) -> str:
    assert str(session(server, 429, "Rain.").instruct("Describe rain.")) == "Rain."
    return "by the client of OpenAI"


LACKS = {
    "a grammar or regular expression of yours steers": "",
    "tools are called, and their results go back": "`MelleaTool` and ReAct, not tried",
    "pictures in a prompt": "`images=`, not tried",
    "a text while it is written": "`astream` of a thunk, not tried",
    "prompts are optimised on examples": "",
    "a budget of tokens for one answer": "",
    "a file of prompts becomes a file of answers": "",
    "runs a GGUF file": "",
    "scores with intervals": "",
    "a judge compares two models, in both orders": "",
    "votes by people": "",
    "training on chains of answer, criticism and revision": "",
    "instructions are generated from seeds": "",
    "conversations are cleaned and deduplicated": "",
    "deltas of weights, GGUF files": "",
    "a whole system by one recipe, resumed": "",
    "the model criticises itself, then revises": "",
    "another model criticises": "",
    "a check steers the model word by word": "",
    "form is mended without the model": "",
    "the invalid part is filtered out": "",
    "partial objects while they are written": "",
    "a budget of money": "",
    "a call is ended from outside and keeps what it has": "",
    "goes on after kill -9 without paying twice": "",
    "keys for users": "",
    "a ranking of models (Elo, Bradley–Terry)": "",
}

if __name__ == "__main__":
    main(LACKS)
