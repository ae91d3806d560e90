"""What a program with langchain-openai asks. Its first argument is the address of a server."""

import asyncio
import json
import sys
from typing import Any

from langchain_openai import ChatOpenAI
from pydantic import BaseModel


class Person(BaseModel):
    name: str
    born: int


def model(name: str, **options: Any) -> ChatOpenAI:
    return ChatOpenAI(model=name, base_url=sys.argv[1], api_key="none", max_retries=0, **options)


async def at_once() -> list[Any]:
    asked = model("plain")
    replies = await asyncio.gather(*[asked.ainvoke("Describe rain.") for _ in range(3)])
    pieces = [chunk.content async for chunk in asked.astream("Describe rain.")]
    return [*(reply.content for reply in replies), "".join(pieces)]


def as_function(asked: ChatOpenAI) -> Any:
    return asked.with_structured_output(Person, method="function_calling").invoke("Who?").model_dump()


def answers() -> dict[str, Any]:
    short, responses = model("short"), model("short", use_responses_api=True)
    reply = short.invoke("Describe rain.")
    pieces = [chunk.content for chunk in short.stream("Describe rain.")]
    conversation = [("user", "Describe rain."), reply, ("user", "Again.")]
    return {
        "invoke": reply.content,
        "reasoning": reply.usage_metadata["output_token_details"]["reasoning"],
        "stream": [piece for piece in pieces if piece],
        "conversation": short.invoke(conversation).content,
        "structured": model("json").with_structured_output(Person).invoke("Who?").model_dump(),
        "function": as_function(model("tool")),
        "json_mode": model("json").with_structured_output(method="json_mode").invoke("Who?"),
        "async": asyncio.run(at_once()),
        "responses": responses.invoke("Describe rain.").text,
        "responses stream": "".join(chunk.text for chunk in responses.stream("Describe rain.")),
    }


if __name__ == "__main__":
    print(json.dumps(answers()))
