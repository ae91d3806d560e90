"""Routes that answer with checks, whole or as a stream. All requests share a model that is opened once.

pip install '.[serve]'    # without MODEL, the default model runs here: '.[local,serve]'
MODEL=openai:gpt-5-mini uvicorn --app-dir examples fastapi_route:app
curl localhost:8000/describe -H 'Content-Type: application/json' -d '{"thing": "a lighthouse"}'

`/describe/live` streams word by word. If checks steer the model (docs/checks.md), as they do the default
model, the text arrives at once, at the end. With `steer=False`, it streams, but passes less often.
"""

import json
import os
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

import redraft


class Wanted(BaseModel):
    thing: str = Field(max_length=200)


class Described(BaseModel):
    text: str
    attempts: int


@asynccontextmanager
async def one_engine(app: FastAPI) -> AsyncIterator[None]:
    async with aclosing(await redraft.load_engine(os.environ.get("MODEL", "default"), parallel=4)) as engine:
        app.state.engine = engine
        yield


app = FastAPI(lifespan=one_engine)


def call(wanted: Wanted, request: Request) -> dict[str, Any]:
    return {
        "prompt": f"Describe {wanted.thing} in one sentence.",
        "model": request.app.state.engine,
        "checks": ["words<=20", "sentences==1"],
        "budget": redraft.Budget(seconds=30),
        "max_tokens": 100,
    }


@app.post("/describe")
async def describe(wanted: Wanted, request: Request) -> Described:
    try:
        chain = await redraft.arevise(**call(wanted, request))
    except redraft.RedraftError as error:  # the model or its server failed
        raise HTTPException(503, detail=error.message) from error
    if not chain.passed and chain.stop == "budget":
        raise HTTPException(504, detail="The time ran out.")
    if not chain.passed:
        raise HTTPException(502, detail="No answer passed the checks.")
    return Described(text=chain.answer, attempts=len(chain.steps))


@app.post("/describe/live")
async def describe_live(wanted: Wanted, request: Request) -> StreamingResponse:
    return StreamingResponse(live(call(wanted, request)), media_type="text/event-stream")


async def live(options: dict[str, Any]) -> AsyncIterator[str]:
    """Yield server-sent events: a piece of text, or all of the text that the browser should show."""
    shown = 0
    try:
        async with aclosing(redraft.stream(**options)) as events:
            async for event in events:
                match event:
                    case redraft.Text(kind="answer", index=index, text=text):
                        yield line(all=text) if index > shown else line(more=text)
                        shown = index
                    case redraft.Interrupted():  # the text since the last step is written again
                        yield line(all="")
                    case redraft.Finished(chain=chain):  # the best answer is not always the last one
                        yield line(all=chain.answer, passed=chain.passed)
                    case _:  # a piece of a patch, after which the whole answer follows; or a step
                        pass
    except redraft.RedraftError as error:  # the status 200 has been sent
        yield line(error=error.message)


def line(**event: Any) -> str:
    return f"data: {json.dumps(event)}\n\n"
