"""Measure objects of five schemas: redraft's `output`, instructor, and the server's own `response_format`."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError

import redraft
from apps_server import serving
from measure import Figure, Goal, Row
from redraft.engines.remote.engine import RemoteEngine

MEASURE = "five schemas: valid objects, calls and seconds against raw response_format and instructor"
HOW = (
    "{prompts} prompts for each of five pydantic models are sent one after the other, to the default model "
    "behind one llama.cpp server: temperature 0.7, at most {tokens} new tokens a call, the same seeds. "
    "redraft and instructor may make two more calls after a fault. raw: the openai SDK with "
    "`response_format` and the model's JSON schema. instructor: `Mode.JSON_SCHEMA`, the best of its modes "
    "here."
)
TOKENS = 256
Short = Annotated[str, Field(max_length=40)]


class Person(BaseModel):
    name: Short
    born: Annotated[int, Field(ge=1000, le=2020)]


class Weather(BaseModel):
    sky: Literal["clear", "cloudy", "rain", "snow"]
    degrees: Annotated[int, Field(ge=-50, le=60)]


class Book(BaseModel):
    title: Short
    authors: Annotated[list[Short], Field(min_length=1, max_length=3)]
    pages: Annotated[int, Field(ge=1, le=5000)]


class Point(BaseModel):
    label: Short
    place: tuple[int, int]


class Order(BaseModel):
    items: Annotated[list[Person | Weather], Field(min_length=1, max_length=2)]
    paid: bool


SCHEMAS: Sequence[tuple[type[BaseModel], str]] = (
    (Person, "Who was {}?"),
    (Weather, "What is the weather like in {}?"),
    (Book, "Name a book about {}."),
    (Point, "Put {} on a map."),
    (Order, "Order something from {}."),
)
TOPICS = (
    *(
        "Ada Lovelace", "Paris", "the sea", "Iceland", "a baker", "Marie Curie", "Lagos", "chess",
        "Mount Fuji",
    ),
    *(
        "a lighthouse", "Alan Turing", "Lima", "bees", "Norway", "a sailor", "Mozart", "Cairo", "rain",
        "the Alps", "tea",
    ),
)  # fmt: skip


@dataclass
class Tally:
    valid: int = 0
    calls: int = 0
    seconds: float = 0.0


Make = Callable[[str, type[BaseModel], int], Awaitable[tuple[bool, int]]]


def raw(url: str) -> Make:
    from openai import AsyncOpenAI

    client = AsyncOpenAI(base_url=url, api_key="none")

    async def make(prompt: str, model: type[BaseModel], seed: int) -> tuple[bool, int]:
        schema = {"name": "answer", "schema": model.model_json_schema(), "strict": True}
        reply = await client.chat.completions.create(
            model="default",
            messages=[{"role": "user", "content": prompt}],
            response_format={"type": "json_schema", "json_schema": schema},  # type: ignore[arg-type]
            max_tokens=TOKENS,
            temperature=0.7,
            seed=seed,
        )
        try:
            model.model_validate_json(reply.choices[0].message.content or "")
        except ValidationError:
            return False, 1
        return True, 1

    return make


def by_instructor(url: str) -> Make:
    import instructor
    from openai import AsyncOpenAI

    client = instructor.from_openai(
        AsyncOpenAI(base_url=url, api_key="none"), mode=instructor.Mode.JSON_SCHEMA
    )
    calls = [0]
    client.on("completion:kwargs", lambda *_, **__: calls.__setitem__(0, calls[0] + 1))

    async def make(prompt: str, model: type[BaseModel], seed: int) -> tuple[bool, int]:
        before = calls[0]
        try:
            await client.chat.completions.create(
                model="default",
                messages=[{"role": "user", "content": prompt}],
                response_model=model,
                max_retries=2,
                max_tokens=TOKENS,
                temperature=0.7,
                seed=seed,
            )
        except Exception:  # noqa: BLE001  (instructor raises errors of several types when no tries are left)
            return False, calls[0] - before
        return True, calls[0] - before

    return make


def by_redraft(engine: RemoteEngine) -> Make:
    async def make(prompt: str, model: type[BaseModel], seed: int) -> tuple[bool, int]:
        chain: redraft.Chain[Any] = await redraft.arevise(
            prompt, model=engine, output=model, max_revisions=2, max_tokens=TOKENS, seed=seed
        )
        return chain.value is not None, len(chain.steps)

    return make


async def measure(prompts: int) -> Row:
    tallies = {"redraft": Tally(), "raw response_format": Tally(), "instructor": Tally()}
    with serving(1) as url:
        engine = await RemoteEngine.connect(url)
        ways = dict(zip(tallies, (by_redraft(engine), raw(url), by_instructor(url)), strict=True))
        for number, topic in enumerate(TOPICS[:prompts]):
            for model, question in SCHEMAS:
                for name, make in ways.items():
                    start = time.perf_counter()
                    valid, calls = await make(question.format(topic), model, number)
                    tally = tallies[name]
                    tally.seconds += time.perf_counter() - start
                    tally.valid, tally.calls = tally.valid + valid, tally.calls + calls
        await engine.aclose()
    return Row(MEASURE, HOW.format(prompts=prompts, tokens=TOKENS), figures_of(tallies))


def figures_of(tallies: dict[str, Tally]) -> tuple[Figure, ...]:
    ours, theirs = tallies["redraft"], tallies["raw response_format"]
    return (
        Figure(
            "valid objects, redraft over raw",
            (ours.valid / max(theirs.valid, 1),),
            "×",
            Goal("≥", 1.0),
            "; ".join(
                f"{name} {t.valid} valid, {t.calls} calls, {t.seconds:.1f} s" for name, t in tallies.items()
            ),
        ),
        Figure("calls, redraft over raw", (ours.calls / theirs.calls,), "×", Goal("≤", 1.1)),
        Figure("seconds, redraft over raw", (ours.seconds / theirs.seconds,), "×", Goal("≤", 1.1)),
    )
