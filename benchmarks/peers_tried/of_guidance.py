"""guidance."""

import guidance
from guidance import assistant, gen, models, select, system, user
from pydantic import BaseModel
from tried import Replies, main, tries

ADA = '{"name": "Ada", "born": 1815}'


class Person(BaseModel):
    name: str
    born: int


def model(server: Replies, *replies: object) -> models.OpenAI:
    server.says(*replies)
    return models.OpenAI("m", api_key="none", base_url=server.url, echo=False)


@tries("a program of fixed text and generated parts")
def _(server: Replies) -> None:
    lm = models.Mock(b"<s>Rain is wet. Snow is cold.", echo=False)
    lm += "Rain is " + gen("one", stop=".") + ". Snow is " + gen("two", stop=".")
    assert (lm["one"], lm["two"]) == ("wet", "cold")


@tries("a grammar or regular expression of yours steers")
@tries("a check steers the model word by word")
def _(server: Replies) -> str:
    lm = models.Mock(b"<s>It is 123 and more", echo=False) + "It is " + gen("number", regex=r"\d{3}")
    assert lm["number"] == "123"
    lm = models.Mock(b"<s>no", echo=False) + select(["yes", "no"], name="said")
    assert lm["said"] == "no"
    return "as an expression or a grammar that you write; tried on its mock model"


@tries("tests without a model")
def _(server: Replies) -> None:
    assert (models.Mock(b"<s>Rain.", echo=False) + gen("text", max_tokens=5))["text"].startswith("R")


@tries("an object of a pydantic type")
def _(server: Replies) -> str:
    lm = model(server, ADA)
    with user():
        lm += "Who?"
    with assistant():
        lm += guidance.json("who", schema=Person)
    assert Person.model_validate_json(lm["who"]).born == 1815
    return "a text that the type reads"


@tries("a conversation of several turns")
def _(server: Replies) -> None:
    lm = model(server, "Hello.")
    with system():
        lm += "Be brief."
    for text in ("Hi.", "Again."):
        with user():
            lm += text
        with assistant():
            lm += gen("said")
    assert len(server.requests[-1]["messages"]) >= 4


@tries("pictures in a prompt")
def _(server: Replies) -> None:
    import base64

    dot = base64.b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    )
    lm = models.OpenAI("gpt-4o", api_key="none", base_url=server.url, echo=False)
    with user():
        lm += guidance.image(dot)
    with assistant():
        lm += gen("said")
    assert "image_url" in server.last


@tries("a text while it is written")
def _(server: Replies) -> None:
    parts = list(models.Mock(b"<s>Rain is wet.", echo=False).stream() + gen("text", max_tokens=9))
    assert len(parts) > 1


@tries("tools are called, and their results go back")
def _(server: Replies) -> str:
    def add(lm: object, a: str, b: str) -> object:
        return lm + f" = {int(a) + int(b)}."

    from inspect import signature

    assert "tools" in signature(gen).parameters
    assert add
    return "`gen(tools=…)` is there; not tried"


@tries("protocols of providers other than OpenAI's")
def _(server: Replies) -> str:
    assert models.experimental
    return "some, in `models.experimental`; no provider was asked"


@tries("runs a GGUF file")
def _(server: Replies) -> str:
    assert models.LlamaCpp
    return "with llama-cpp-python, not tried"


LACKS = {
    "a failed answer goes back with what is wrong": "nothing fails where it steers",
    "every draft is kept, with what was said of it": "",
    "a function of yours as a check": "",
    "the best answer is kept if none passes": "",
    "best of several samples": "",
    "partial objects while they are written": "",
    "form is mended without the model": "",
    "an API like OpenAI's": "",
    "the API's answers are checked and revised": "",
    "keys for users": "",
    "a budget of tokens for one answer": "",
    "a file of prompts becomes a file of answers": "",
    "replies are cached in a file": "",
    "scores with intervals": "",
    "a web page to chat": "widgets for notebooks",
    "a call is ended from outside and keeps what it has": "",
    "a busy server is asked again": "",
}

if __name__ == "__main__":
    main(LACKS)
