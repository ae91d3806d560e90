"""TextGrad."""

import textgrad
from openai import OpenAI
from textgrad.engine.local_model_openai_api import ChatExternalClient
from tried import Replies, main, tries

LONG = "Rain is wet and cold."
NEW = "<IMPROVED_VARIABLE>Rain.</IMPROVED_VARIABLE>"


def engine(server: Replies, *replies: object) -> ChatExternalClient:
    server.says(*replies)
    own = ChatExternalClient(
        client=OpenAI(base_url=server.url, api_key="none"), model_string=f"m-{id(server)}"
    )
    own.cache.clear()
    return own


def revised(server: Replies, *replies: object) -> str:
    own = engine(server, *replies)
    text = textgrad.Variable(LONG, requires_grad=True, role_description="a description")
    loss = textgrad.TextLoss("Is it short? Criticise it.", engine=own)
    optimiser = textgrad.TGD(parameters=[text], engine=own)
    loss(text).backward(own)
    optimiser.step()
    return str(text.value)


@tries("the model criticises itself, then revises")
@tries("another model criticises")
@tries("a model judges an answer by a sentence")
def _(server: Replies) -> None:
    assert revised(server, "It is too long.", "Say less.", NEW) == "Rain."


@tries("a function of yours as a check")
@tries("a failed answer goes back with what is wrong")
def _(server: Replies) -> str:
    from textgrad.autograd import StringBasedFunction

    own = engine(server, "Say less.", NEW)
    text = textgrad.Variable(LONG, requires_grad=True, role_description="a description")
    counted = StringBasedFunction(
        lambda text: f"{len(text.value.split())} words; at most three", "counts words"
    )
    optimiser = textgrad.TGD(parameters=[text], engine=own)
    counted({"text": text}).backward(own)
    optimiser.step()
    assert text.value == "Rain."
    return "a function's text becomes a criticism by the model; whether to stop is left to you"


@tries("prompts are optimised on examples")
def _(server: Replies) -> None:
    own = engine(server, LONG, "It is too long.", "Say less.", "Say so.", NEW)
    system = textgrad.Variable("Describe.", requires_grad=True, role_description="a system prompt")
    answer = textgrad.BlackboxLLM(own, system)(
        textgrad.Variable("Describe rain.", requires_grad=False, role_description="a question")
    )
    loss = textgrad.TextLoss("Is it short?", engine=own)(answer)
    optimiser = textgrad.TGD(parameters=[system], engine=own)
    loss.backward(own)
    server.says(NEW)
    optimiser.step()
    assert system.value == "Rain."


@tries("every draft is kept, with what was said of it")
def _(server: Replies) -> str:
    own = engine(server, "It is too long.", "Say less.", NEW)
    text = textgrad.Variable(LONG, requires_grad=True, role_description="a description")
    textgrad.TextLoss("Is it short?", engine=own)(text).backward(own)
    assert text.gradients
    return "the criticisms, until `zero_grad`; an earlier text is overwritten"


@tries("replies are cached in a file")
def _(server: Replies) -> None:
    own = engine(server, "Rain.")
    assert [own("Describe rain."), own("Describe rain.")] == ["Rain.", "Rain."]
    assert len(server.requests) == 1


@tries("a busy server is asked again")
def _(server: Replies) -> None:
    assert engine(server, 429, "Rain.")("Describe rain.") == "Rain."


@tries("pictures in a prompt")
def _(server: Replies) -> str:
    from textgrad.autograd import MultimodalLLMCall

    assert MultimodalLLMCall
    return "for engines of OpenAI and Anthropic; not tried"


@tries("protocols of providers other than OpenAI's")
def _(server: Replies) -> str:
    from importlib.util import find_spec

    assert find_spec("textgrad.engine.anthropic")
    return "its modules are there; no provider was asked"


LACKS = {
    "the best answer is kept if none passes": "the last text stays",
    "an object of a pydantic type": "",
    "a grammar or regular expression of yours steers": "",
    "a program of fixed text and generated parts": "",
    "searches such as trees or majority votes": "",
    "supervised fine-tuning": "",
}

if __name__ == "__main__":
    main(LACKS)
