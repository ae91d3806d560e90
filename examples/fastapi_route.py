"""A route that answers with checks. The model is opened once, and all requests share it.

pip install '.[serve]'    # without MODEL, the default model runs here: '.[local,serve]'
MODEL=openai:gpt-5-mini uvicorn fastapi_route:app
curl localhost:8000/describe -H 'Content-Type: application/json' -d '{"thing": "a lighthouse"}'
"""

import os
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

from fastapi import FastAPI, HTTPException, Request
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


@app.post("/describe")
async def describe(wanted: Wanted, request: Request) -> Described:
    chain = await redraft.arevise(
        f"Describe {wanted.thing} in one sentence.",
        model=request.app.state.engine,
        checks=["words<=20", "sentences==1"],
        budget=redraft.Budget(seconds=30),
        max_tokens=100,
    )
    if not chain.passed:
        raise HTTPException(502, detail="No answer passed the checks.")
    return Described(text=chain.answer, attempts=len(chain.steps))
