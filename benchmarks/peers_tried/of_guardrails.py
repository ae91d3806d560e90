"""guardrails."""

import asyncio
import os
from typing import Any

os.environ["OTEL_SDK_DISABLED"] = "true"  # its telemetry waits for a host that is not reached
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else litellm fetches prices

from guardrails import AsyncGuard, Guard, OnFailAction
from guardrails.validators import FailResult, PassResult, Validator, register_validator
from pydantic import BaseModel
from tried import Replies, main, tries

LONG = "Rain is wet and cold."
SAID = [{"role": "user", "content": "Describe rain."}]


class Person(BaseModel):
    name: str
    born: int


@register_validator(name="few", data_type="string")
class Few(Validator):
    def validate(self, value: Any, metadata: Any) -> Any:
        if len(value.split()) > 3:
            return FailResult(error_message="at most three words", fix_value=" ".join(value.split()[:3]))
        return PassResult()


def asked(server: Replies, action: OnFailAction, *replies: object, reasks: int = 1) -> Any:
    server.says(*replies)
    guard = Guard().use(Few(on_fail=action))
    return guard(model="openai/m", api_base=server.url, api_key="none", messages=SAID, num_reasks=reasks)


@tries("an object of a pydantic type")
def _(server: Replies) -> str:
    server.says('{"name": "Ada", "born": 1815}')
    guard = Guard.for_pydantic(Person)
    found = guard(model="openai/m", api_base=server.url, api_key="none", messages=SAID)
    assert found.validated_output == {"name": "Ada", "born": 1815}
    return "as a dictionary that the type reads"


@tries("a function of yours as a check")
@tries("a failed answer goes back with what is wrong")
def _(server: Replies) -> None:
    assert asked(server, OnFailAction.REASK, LONG, "Rain.").validated_output == "Rain."
    assert "at most three words" in server.last


@tries("the best answer is kept if none passes")
def _(server: Replies) -> str:
    found = asked(server, OnFailAction.REASK, "a b c d", "a b c d e")
    assert found.raw_llm_output == "a b c d e"
    return "the last one is kept, mended if its validator can"


@tries("form is mended without the model")
def _(server: Replies) -> str:
    assert asked(server, OnFailAction.FIX, LONG).validated_output == "Rain is wet"
    return "by a validator's own function, as in its hub"


@tries("the invalid part is filtered out")
def _(server: Replies) -> str:
    assert not asked(server, OnFailAction.FILTER, LONG).validated_output
    return "a text that fails becomes nothing; of an object, nothing was left in our try"


@tries("checks by a short name, such as words<=50")
def _(server: Replies) -> str:
    from importlib.util import find_spec

    assert find_spec("guardrails.hub")
    return "validators of its hub, each installed with a token; not tried"


@tries("a text while it is written")
def _(server: Replies) -> None:
    server.says(LONG)
    parts = Guard()(model="openai/m", api_base=server.url, api_key="none", messages=SAID, stream=True)
    assert len(list(parts)) > 1


@tries("async")
def _(server: Replies) -> None:
    server.says("Rain.")
    guard = AsyncGuard().use(Few(on_fail=OnFailAction.NOOP))
    found = asyncio.run(guard(model="openai/m", api_base=server.url, api_key="none", messages=SAID))
    assert found.validated_output == "Rain."


@tries("a conversation of several turns")
def _(server: Replies) -> None:
    server.says("Rain.")
    said = [*SAID, {"role": "assistant", "content": "Wet."}, {"role": "user", "content": "Again."}]
    Guard()(model="openai/m", api_base=server.url, api_key="none", messages=said)
    assert len(server.requests[-1]["messages"]) == 3


@tries("every draft is kept, with what was said of it")
def _(server: Replies) -> None:
    server.says(LONG, "Rain.")
    guard = Guard().use(Few(on_fail=OnFailAction.REASK))
    guard(model="openai/m", api_base=server.url, api_key="none", messages=SAID, num_reasks=1)
    steps = guard.history.last.iterations
    assert len(steps) == 2
    assert "at most three words" in str(steps.first.failed_validations)


@tries("protocols of providers other than OpenAI's")
def _(server: Replies) -> str:
    import litellm

    assert litellm
    return "by litellm; no provider was asked"


@tries("a command for the terminal")
def _(server: Replies) -> str:
    import subprocess

    said = subprocess.run(["guardrails", "--help"], capture_output=True, text=True, check=True).stdout
    assert "validate" in said
    return "to validate a text and to manage its hub"


@tries("an API like OpenAI's")
@tries("the API's answers are checked and revised")
def _(server: Replies) -> str:
    import subprocess

    said = subprocess.run(["guardrails", "--help"], capture_output=True, text=True, check=True).stdout
    assert "start" in said
    return "`guardrails start`, with the package guardrails-api; not tried"


@tries("a busy server is asked again")
def _(server: Replies) -> None:
    assert asked(server, OnFailAction.NOOP, 429, "Rain.").validated_output == "Rain."


@tries("traces by OpenTelemetry")
def _(server: Replies) -> str:
    import opentelemetry

    assert opentelemetry
    return "its spans are there; not tried"


LACKS = {
    "a model judges an answer by a sentence": "by validators of its hub, not tried",
    "tools are called, and their results go back": "",
    "replies are cached in a file": "",
    "a file of prompts becomes a file of answers": "",
    "keys for users": "",
    "training on chains of answer, criticism and revision": "",
    "deltas of weights, GGUF files": "",
    "the model criticises itself, then revises": "",
    "another model criticises": "",
    "best of several samples": "",
    "a new draft that is told what failed, without the draft": "",
    "a grammar or regular expression of yours steers": "",
    "a program of fixed text and generated parts": "",
    "a budget of tokens for one answer": "",
    "a call is ended from outside and keeps what it has": "",
    "partial objects while they are written": "",
    "goes on after kill -9 without paying twice": "",
    "scores with intervals": "",
}

if __name__ == "__main__":
    main(LACKS)
