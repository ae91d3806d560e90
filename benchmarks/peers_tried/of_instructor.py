"""instructor."""

import asyncio

import instructor
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel, field_validator
from tried import Replies, call_of, main, tries

SAID = [{"role": "user", "content": "Who was Ada?"}]
ADA = '{"name": "Ada", "born": 1815}'


class Person(BaseModel):
    name: str
    born: int


class Short(BaseModel):
    text: str

    @field_validator("text")
    @classmethod
    def few(cls, text: str) -> str:
        if len(text.split()) > 3:
            raise ValueError("at most three words")
        return text


def client(server: Replies) -> instructor.Instructor:
    return instructor.from_openai(
        OpenAI(base_url=server.url, api_key="none"), mode=instructor.Mode.JSON_SCHEMA
    )


@tries("an object of a pydantic type")
def _(server: Replies) -> None:
    server.says(ADA)
    found = client(server).chat.completions.create(model="m", response_model=Person, messages=SAID)
    assert (found.name, found.born) == ("Ada", 1815)


@tries("a function of yours as a check")
@tries("a failed answer goes back with what is wrong")
def _(server: Replies) -> None:
    server.says('{"text": "one two three four"}', '{"text": "one"}')
    found = client(server).chat.completions.create(
        model="m", response_model=Short, messages=SAID, max_retries=2
    )
    assert found.text == "one"
    assert "at most three words" in server.last


@tries("the best answer is kept if none passes")
def _(server: Replies) -> str:
    server.says('{"text": "one two three four"}')
    try:
        client(server).chat.completions.create(model="m", response_model=Short, messages=SAID, max_retries=1)
    except instructor.core.InstructorRetryException as error:
        assert error.failed_attempts
        return "it raises an error, which holds the attempts; none is chosen"
    raise AssertionError


@tries("a model judges an answer by a sentence")
def _(server: Replies) -> None:
    from pydantic import BeforeValidator, create_model
    from typing import Annotated

    own = client(server)
    judged = instructor.llm_validator("It is polite.", client=own, model="m")
    kind = create_model("Polite", text=(Annotated[str, BeforeValidator(judged)], ...))
    server.says('{"text": "Go!"}', '{"is_valid": false, "reason": "It is rude.", "fixed_value": null}',
                '{"text": "Please go."}', '{"is_valid": true, "reason": "", "fixed_value": null}')  # fmt: skip
    found = own.chat.completions.create(model="m", response_model=kind, messages=SAID, max_retries=2)
    assert found.text == "Please go."


@tries("partial objects while they are written")
def _(server: Replies) -> None:
    server.says(ADA)
    parts = list(
        client(server).chat.completions.create_partial(model="m", response_model=Person, messages=SAID)
    )
    assert parts[0].born is None
    assert parts[-1].born == 1815


@tries("a text while it is written")
def _(server: Replies) -> str:
    server.says(ADA)
    found = client(server).chat.completions.create_partial(model="m", response_model=Person, messages=SAID)
    assert len(list(found)) > 1
    return "as partial objects"


@tries("async")
def _(server: Replies) -> None:
    server.says(ADA)
    own = instructor.from_openai(AsyncOpenAI(base_url=server.url, api_key="none"), mode=instructor.Mode.JSON)
    found = asyncio.run(own.chat.completions.create(model="m", response_model=Person, messages=SAID))
    assert found.born == 1815


@tries("a conversation of several turns")
def _(server: Replies) -> None:
    server.says(ADA)
    said = [*SAID, {"role": "assistant", "content": "Ada."}, {"role": "user", "content": "When born?"}]
    client(server).chat.completions.create(model="m", response_model=Person, messages=said)
    assert "When born?" in server.last
    assert len(server.requests[-1]["messages"]) >= 3


@tries("pictures in a prompt")
def _(server: Replies) -> None:
    server.says(ADA)
    dot = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    said = [{"role": "user", "content": ["Who?", instructor.Image.from_base64(dot)]}]
    client(server).chat.completions.create(model="m", response_model=Person, messages=said)
    assert "image_url" in server.last


@tries("tools are called, and their results go back")
def _(server: Replies) -> str:
    server.says(call_of("Person", {"name": "Ada", "born": 1815}))
    own = instructor.from_openai(OpenAI(base_url=server.url, api_key="none"), mode=instructor.Mode.TOOLS)
    found = own.chat.completions.create(model="m", response_model=Person, messages=SAID)
    assert found.born == 1815
    return "a call of a tool becomes an object; its result does not go back"


@tries("protocols of providers other than OpenAI's")
def _(server: Replies) -> None:
    assert callable(instructor.from_provider)
    from instructor import Mode

    assert {"ANTHROPIC_TOOLS", "GENAI_TOOLS"} & {mode.name for mode in Mode}


@tries("a busy server is asked again")
def _(server: Replies) -> None:
    server.says(429, ADA)
    found = client(server).chat.completions.create(model="m", response_model=Person, messages=SAID)
    assert found.born == 1815


@tries("replies are cached in a file")
def _(server: Replies) -> str:
    from instructor.cache import AutoCache

    server.says(ADA)
    own = instructor.from_openai(
        OpenAI(base_url=server.url, api_key="none"), mode=instructor.Mode.JSON, cache=AutoCache(maxsize=9)
    )
    for _ in range(2):
        own.chat.completions.create(model="m", response_model=Person, messages=SAID)
    assert len(server.requests) == 1
    return "in memory tried; on disk with the package diskcache"


@tries("batches of a provider at half the price")
def _(server: Replies) -> str:
    from instructor.batch import BatchProcessor

    own = BatchProcessor("openai/m", Person)
    lines = own.create_batch_from_messages([SAID], file_path="batch.jsonl")
    assert lines
    return "the file of requests was made; no provider was asked"


@tries("a command for the terminal")
def _(server: Replies) -> str:
    import subprocess

    said = subprocess.run(["instructor", "--help"], capture_output=True, text=True, check=True).stdout
    assert "batch" in said
    return (
        "for jobs, files and usage at providers, with the package tqdm, which it does not install; not to ask"
    )


LACKS = {
    "the model criticises itself, then revises": "",
    "another model criticises": "only by `llm_validator`",
    "a new draft that is told what failed, without the draft": "",
    "the invalid part is filtered out": "",
    "a grammar or regular expression of yours steers": "",
    "a program of fixed text and generated parts": "",
    "a budget of tokens for one answer": "",
    "a call is ended from outside and keeps what it has": "",
    "a file of prompts becomes a file of answers": "only as a provider's batch",
    "an API like OpenAI's": "",
    "the API's answers are checked and revised": "",
    "keys for users": "",
    "scores with intervals": "",
    "deltas of weights, GGUF files": "",
}


@tries("every draft is kept, with what was said of it")
def _(server: Replies) -> str:
    seen: list[str] = []
    own = client(server)
    own.on("parse:error", lambda error: seen.append(str(error)))
    server.says('{"text": "one two three four"}', '{"text": "one"}')
    own.chat.completions.create(model="m", response_model=Short, messages=SAID, max_retries=2)
    assert seen
    return "by hooks of yours, and in the error if none passes"


if __name__ == "__main__":
    main(LACKS)
