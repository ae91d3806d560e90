"""Outlines."""

import asyncio

import outlines
from openai import AsyncOpenAI, OpenAI
from outlines.inputs import Chat
from outlines.types import CFG, Regex
from pydantic import BaseModel
from tried import Replies, main, tries

ADA = '{"name": "Ada", "born": 1815}'


class Person(BaseModel):
    name: str
    born: int


def model(server: Replies, *replies: object) -> object:
    server.says(*replies)
    return outlines.from_vllm(OpenAI(base_url=server.url, api_key="none"), "m")


@tries("an object of a pydantic type")
def _(server: Replies) -> str:
    text = model(server, ADA)("Who?", Person)
    assert Person.model_validate_json(text).born == 1815
    return "a text that the type reads"


@tries("a grammar or regular expression of yours steers")
def _(server: Replies) -> str:
    own = model(server, "123")
    own("Name a number.", Regex(r"\d{3}"))
    assert r"\\d{3}" in str(server.requests[-1]) or r"\d{3}" in str(server.requests[-1])
    own("Name a number.", CFG('start: "1"'))
    assert "start:" in str(server.requests[-1])
    return "sent to a server of vLLM here; in its process for transformers, llama.cpp and MLX"


@tries("a check steers the model word by word")
def _(server: Replies) -> str:
    model(server, "one two")("Say.", Regex(r"\w+( \w+){0,2}"))
    assert "{0,2}" in str(server.requests[-1])
    return "as an expression that you write"


@tries("a conversation of several turns")
def _(server: Replies) -> None:
    said = [
        {"role": "user", "content": "A"},
        {"role": "assistant", "content": "B"},
        {"role": "user", "content": "C"},
    ]
    model(server, "D")(Chat(said))
    assert len(server.requests[-1]["messages"]) == 3


@tries("pictures in a prompt")
def _(server: Replies) -> str:
    assert outlines.inputs.Image
    return "for some models; not tried"


@tries("a text while it is written")
def _(server: Replies) -> None:
    assert len(list(model(server, "Rain is water.").stream("Describe rain."))) > 1


@tries("async")
def _(server: Replies) -> None:
    server.says("Rain.")
    own = outlines.from_vllm(AsyncOpenAI(base_url=server.url, api_key="none"), "m")
    assert asyncio.run(own("Describe rain.")) == "Rain."


@tries("best of several samples")
def _(server: Replies) -> str:
    found = outlines.from_openai(OpenAI(base_url=server.url, api_key="none"), "m")("Describe rain.", n=3)
    assert len(found) == 3
    return "several samples in one call; choosing is left to you"


@tries("a busy server is asked again")
def _(server: Replies) -> str:
    assert model(server, 429, "Rain.")("Describe rain.") == "Rain."
    return "by the client of OpenAI"


@tries("protocols of providers other than OpenAI's")
def _(server: Replies) -> None:
    assert outlines.from_anthropic
    assert outlines.from_gemini


@tries("a program of fixed text and generated parts")
def _(server: Replies) -> str:
    template = outlines.Template.from_string("Describe {{ what }}.")
    assert model(server, "Rain.")(template(what="rain")) == "Rain."
    return "prompts by templates; each part that is generated is a call"


@tries("a file of prompts becomes a file of answers")
def _(server: Replies) -> str:
    assert outlines.models.TransformersMultiModal
    return "lists, for models in its process; not tried"


LACKS = {
    "a failed answer goes back with what is wrong": "nothing fails where it steers",
    "tools are called, and their results go back": "",
    "every draft is kept, with what was said of it": "",
    "a call is ended from outside and keeps what it has": "",
    "a function of yours as a check": "",
    "the best answer is kept if none passes": "",
    "the API's answers are checked and revised": "",
    "an API like OpenAI's": "",
    "keys for users": "",
    "form is mended without the model": "",
    "scores with intervals": "",
    "supervised fine-tuning": "",
    "another model criticises": "",
}

if __name__ == "__main__":
    main(LACKS)
