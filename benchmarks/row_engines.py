"""Measure `redraft answer` with many streams, beside other engines that run the same model."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from apps_server import serving
from material import answered, default_model, printed, questions, write_prompts
from measure import Figure, Goal, Rates, Row, in_turns
from processor import family, resident
from redraft.engines.base import Sampling
from redraft.engines.hf.load import computes_in_bfloat16
from redraft.engines.load import load_engine
from weights_run import weights

TOKENS, TEMPERATURE, ROUNDS, LEAST = 128, 0.7, 5, 24
HOW = (
    "At least {least} everyday questions, and one for each stream, at temperature 0.7, with at most {tokens} "
    "new tokens each. "
    "Our time is the whole life of the process `redraft answer --parallel N --max-revisions 0`: start, "
    "model, output. The peers' time begins with a loaded model. `LLMPipeline` of OpenVINO GenAI gets N "
    "prompts at once, and so does `generate` of transformers, in {dtype}, with the weights unpacked; "
    "llama.cpp's server (xllamacpp) has N slots and N clients. Only generated tokens count."
)
LONG = 1024  # tokens of each text when memory is measured


@dataclass(frozen=True)
class Work:
    streams: int
    prompts: Path
    model: Path
    folder: Path  # the model for transformers

    @property
    def asked(self) -> list[str]:
        return [json.loads(line)["prompt"] for line in self.prompts.read_text("utf-8").splitlines()]

    def redraft(self) -> tuple[int, float]:
        return answered(
            self.prompts,
            *("--parallel", self.streams, "--max-revisions", 0, "--max-tokens", TOKENS),
            *("--temperature", TEMPERATURE, "--mode", "prompted", "--model", self.model),
        )

    def pipeline(self) -> tuple[int, float]:
        return self._peer("cpu_pipeline.py", self.model)

    def transformers(self) -> tuple[int, float]:
        return self._peer("apps_hf_peer.py", self.folder, DTYPE)

    def _peer(self, script: str, model: Path, *more: str) -> tuple[int, float]:
        tokens, seconds = printed(script, model, self.prompts, self.streams, TOKENS, *more).split()
        return int(tokens), float(seconds)

    def server(self, url: str) -> tuple[int, float]:
        async def one(client: httpx.AsyncClient, question: str, slots: asyncio.Semaphore) -> int:
            body = {
                "messages": [{"role": "user", "content": question}],
                "max_tokens": TOKENS,
                "temperature": TEMPERATURE,
            }
            async with slots:
                reply = await client.post(f"{url}/chat/completions", json=body)
            return int(reply.raise_for_status().json()["usage"]["completion_tokens"])

        async def all_of_them() -> int:
            slots = asyncio.Semaphore(self.streams)
            async with httpx.AsyncClient(timeout=3600.0) as client:
                return sum(await asyncio.gather(*(one(client, each, slots) for each in self.asked)))

        start = time.perf_counter()
        return asyncio.run(all_of_them()), time.perf_counter() - start


DTYPE = "bfloat16" if computes_in_bfloat16() else "float32"


def run(*, quick: bool) -> Row:
    figures: list[Figure] = []
    least = 8 if quick else LEAST
    with tempfile.TemporaryDirectory() as folder:
        unpacked = Path(folder) / "model"
        weights("from-gguf", default_model(), "-o", unpacked)
        for streams in (8,) if quick else (8, 32, 64):
            prompts = write_prompts(Path(folder) / "prompts.jsonl", questions(max(least, streams)))
            work = Work(streams, prompts, default_model(), unpacked)
            for peer, theirs, goal in _peers(work):
                with theirs() as answers:
                    rates = Rates(*in_turns(1 if quick else ROUNDS, work.redraft, answers))
                figures.append(rates.figure(f"{streams} streams, over {peer}", goal, "redraft", peer))
    how = HOW.format(least=least, tokens=TOKENS, dtype=DTYPE)
    return Row("redraft answer, over what computes the same model, tokens/s", how, tuple(figures))


Answered = Callable[[], tuple[int, float]]


def _peers(work: Work) -> Iterator[tuple[str, Callable[[], Any], Goal]]:
    @contextmanager
    def server() -> Iterator[Answered]:
        with serving(work.streams) as url:
            yield lambda: work.server(url)

    @contextmanager
    def plain(answered: Answered) -> Iterator[Answered]:
        yield answered

    yield "LLMPipeline", lambda: plain(work.pipeline), Goal("≥", 0.9)
    yield "transformers", lambda: plain(work.transformers), Goal("≥", 1.5)
    if work.streams <= 32:
        yield "llama.cpp's server", server, Goal("≥", 2.5 if work.streams == 8 else 4)


def memory(*, quick: bool) -> Row:
    streams, tokens = (4, 64) if quick else (32, LONG)

    async def measured(engine: Any) -> float:
        opened = await load_engine(str(default_model()), engine=engine, parallel=streams)

        async def one(seed: int, asked: str) -> None:
            sampling = Sampling(max_tokens=tokens, seed=seed)
            async for _ in opened.chat([{"role": "user", "content": f"{asked} Answer at length."}], sampling):
                pass

        await asyncio.gather(*map(one, range(streams), questions(streams)))
        found = sum(resident(each, "VmHWM") for each in family(os.getpid(), itself=False))
        await opened.aclose()
        return found - default_model().stat().st_size / 1e6

    figures = [Figure(name, (asyncio.run(measured(name)),), "MB") for name in ("openvino", "llamacpp")]
    file = default_model().stat().st_size / 1e6
    how = (
        f"The peak of the model's process (VmHWM) minus the file of {file:.0f} MB: {streams} streams of at "
        f"most {tokens} tokens."
    )
    return Row("memory beside the model", how, tuple(figures))
