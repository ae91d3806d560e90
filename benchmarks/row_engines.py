"""`redraft answer` with the engine that it takes for many streams, beside what computes the same model."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from apps_server import serving
from material import QUESTIONS, default_model
from measure import Figure, Goal, Row, alternate
from redraft.chain import read_jsonl
from redraft.engines.base import Sampling
from redraft.engines.hf.load import computes_in_bfloat16
from redraft.engines.load import load_engine
from weights_run import weights

TOKENS, TEMPERATURE, ROUNDS, LEAST = 128, 0.7, 3, 24
HOW = (
    "At least {least} everyday questions, and one for each stream, at temperature 0.7, with at most {tokens} "
    "new tokens each. "
    "Ours is the whole life of the process `redraft answer --parallel N --max-revisions 0`: start, model, "
    "output. The peers' time begins when their model is loaded. `LLMPipeline` of OpenVINO GenAI gets N "
    "prompts at once, and so does `generate` of transformers, in {dtype}, with the weights unpacked; "
    "llama.cpp's server (xllamacpp) has N slots and N clients. Tokens are those that were made."
)
HOUR = 3600.0
LONG = 1024  # tokens of a text whose memory is measured


@dataclass(frozen=True)
class Work:
    """Questions for so many streams."""

    streams: int
    prompts: Path
    model: Path
    folder: Path  # the model for transformers

    @property
    def asked(self) -> list[str]:
        """The questions."""
        return [json.loads(line)["prompt"] for line in self.prompts.read_text("utf-8").splitlines()]

    def redraft(self) -> tuple[int, float]:
        """Answers them with the command."""
        out = self.prompts.with_name("chains.jsonl")
        out.unlink(missing_ok=True)
        start = time.perf_counter()
        _run(
            *("-m", "redraft", "answer", os.fspath(self.prompts), "-o", os.fspath(out), "--quiet"),
            *("--parallel", str(self.streams), "--max-revisions", "0", "--max-tokens", str(TOKENS)),
            *("--temperature", str(TEMPERATURE), "--mode", "prompted", "--model", os.fspath(self.model)),
        )
        seconds = time.perf_counter() - start
        return sum(chain.usage.completion_tokens for chain in read_jsonl(out)), seconds

    def pipeline(self) -> tuple[int, float]:
        """Answers them with OpenVINO GenAI alone."""
        return self._peer("cpu_pipeline.py", self.model)

    def transformers(self) -> tuple[int, float]:
        """Answers them with transformers."""
        return self._peer("apps_hf_peer.py", self.folder, DTYPE)

    def _peer(self, script: str, model: Path, *more: str) -> tuple[int, float]:
        peer = os.fspath(Path(__file__).with_name(script))
        printed = _run(peer, *map(os.fspath, (model, self.prompts)), str(self.streams), str(TOKENS), *more)
        tokens, seconds = printed.split()
        return int(tokens), float(seconds)

    def server(self, url: str) -> tuple[int, float]:
        """Answers them with llama.cpp's server."""

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
            async with httpx.AsyncClient(timeout=HOUR) as client:
                return sum(await asyncio.gather(*(one(client, each, slots) for each in self.asked)))

        start = time.perf_counter()
        return asyncio.run(all_of_them()), time.perf_counter() - start


DTYPE = "bfloat16" if computes_in_bfloat16() else "float32"


def run(*, quick: bool) -> Row:
    """Measures the row."""
    figures: list[Figure] = []
    least = 8 if quick else LEAST
    with tempfile.TemporaryDirectory() as folder:
        unpacked = Path(folder) / "model"
        weights("from-gguf", default_model(), "-o", unpacked)
        for streams in (8,) if quick else (8, 32, 64):
            prompts = Path(folder) / "prompts.jsonl"
            asked = [QUESTIONS[number % len(QUESTIONS)] for number in range(max(least, streams))]
            prompts.write_text("".join(json.dumps({"prompt": each}) + "\n" for each in asked), "utf-8")
            work = Work(streams, prompts, default_model(), unpacked)
            for peer, theirs, goal in _peers(work):
                with theirs() as answered:
                    rates = asyncio.run(_paired(1 if quick else ROUNDS, work.redraft, answered))
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


async def _paired(rounds: int, ours: Answered, theirs: Answered) -> Any:
    return await alternate(rounds, lambda: asyncio.to_thread(ours), lambda: asyncio.to_thread(theirs))


def _run(*arguments: str) -> str:
    return subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True).stdout


def memory(*, quick: bool) -> Row:
    """Measures what the process of the model takes beside the model's own size."""
    streams, tokens = (4, 64) if quick else (32, LONG)

    async def measured(engine: Any) -> float:
        opened = await load_engine(str(default_model()), engine=engine, parallel=streams)

        async def one(seed: int) -> None:
            sampling = Sampling(max_tokens=tokens, seed=seed)
            asked = {"role": "user", "content": f"{QUESTIONS[seed % len(QUESTIONS)]} Answer at length."}
            async for _ in opened.chat([asked], sampling):
                pass

        await asyncio.gather(*map(one, range(streams)))
        found = sum(map(_peak, _children()))
        await opened.aclose()
        return found - default_model().stat().st_size / 1e6

    figures = [Figure(name, (asyncio.run(measured(name)),), "MB") for name in ("openvino", "llamacpp")]
    file = default_model().stat().st_size / 1e6
    how = (
        f"The peak of the model's process (VmHWM), less the file of {file:.0f} MB: {streams} streams of at "
        f"most {tokens} tokens."
    )
    return Row("memory beside the model", how, tuple(figures))


def _children() -> list[int]:
    found = (path for path in Path("/proc").iterdir() if path.name.isdigit())
    return [int(path.name) for path in found if _parent(path) == os.getpid()]


def _parent(process: Path) -> int:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _peak(process: int) -> float:
    """Returns the largest memory of a process in MB."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next((int(line.split()[1]) / 1e3 for line in lines if line.startswith("VmHWM")), 0.0)
