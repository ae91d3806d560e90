"""How natural steered answers are, beside unsteered ones that pass the same checks.

    python benchmarks/steer_natural.py      makes the pairs anew, steer_pairs.jsonl; labels are then void

`measure` counts the labels of steer_labels.tsv, and computes how likely the model holds both answers of each
pair. A label is the side that reads better, A or B, or =; who labels sees neither which side is steered nor
its figures (`shown`). The prompts are IFEval's (Google, Apache-2.0).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
import tempfile
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import redraft
from apps_constraints import held_out
from measure import Figure, Goal, Row
from redraft.engines.base import Engine
from redraft.engines.llamacpp.default_model import cached_default
from redraft.engines.load import load_engine
from redraft.stats import difference
from redraft.verify.ifeval import Constraint

PAIRS, LABELS = (Path(__file__).with_name(name) for name in ("steer_pairs.jsonl", "steer_labels.tsv"))
PARALLEL, TOKENS, DRAFTS, SEED, MOST = 8, 128, 8, 7, 50
HOW = (
    "{pairs} prompts of `apps.py` for which the default model wrote a steered answer that passes and, in at "
    "most {drafts} drafts, an unsteered one; the first of each. Log-likelihood: of the tokens of the answer "
    "after the prompt with its demands, under the model without steering (float32). Labels: pairs were read "
    "in an order that does not show the side (steer_labels.tsv)."
)


@dataclass(frozen=True)
class Pair:
    """Two answers to a prompt that pass the same checks. `asked` is the prompt with its demands."""

    asked: str
    steered: str
    plain: str

    @property
    def shown(self) -> tuple[str, str]:
        """The answers as A and B."""
        first = hashlib.sha256(self.asked.encode()).digest()[0] % 2 == 0
        return (self.steered, self.plain) if first else (self.plain, self.steered)


async def make(engine: Engine, number: int, record: dict[str, Any]) -> Pair | None:
    """Makes the pair of a record, if both ways pass."""
    pairs = zip(record["instruction_id_list"], record["kwargs"], strict=True)
    checks = [Constraint.of(kind, given) for kind, given in pairs]
    made = [
        await redraft.arevise(
            record["prompt"], model=engine, checks=checks, mode="best-of", drafts=DRAFTS, steer=steer,
            max_tokens=TOKENS, seed=10_000 * SEED + number,
        )
        for steer in (False, True)
    ]  # fmt: skip
    plain, steered = made
    if not (plain.passed and steered.passed):
        return None
    demands = "\n".join(f"- {check.demand}" for check in checks)
    return Pair(f"{record['prompt']}\n\n{demands}", steered.answer, plain.answer)


async def make_all() -> list[Pair]:
    """Makes the pairs of the first records that have one."""
    slots = asyncio.Semaphore(PARALLEL)
    async with aclosing(await load_engine("default", parallel=PARALLEL, threads=1)) as engine:

        async def one(number: int, record: dict[str, Any]) -> Pair | None:
            async with slots:
                return await make(engine, number, record)

        found = await asyncio.gather(*(one(*each) for each in enumerate(held_out(100))))
    return [pair for pair in found if pair][:MOST]


async def likelihoods(pairs: Sequence[Pair]) -> list[tuple[float, float]]:
    """Returns the mean log-probability of a token of both answers, steered first."""
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work, "model")
        command = ["redraft", "weights", "from-gguf", str(cached_default()), "-o", str(folder)]
        process = await asyncio.create_subprocess_exec(sys.executable, "-m", *command, stdout=-3, stderr=-3)
        assert await process.wait() == 0
        async with aclosing(await load_engine(str(folder), dtype="float32")) as engine:
            return [
                (await likely(engine, each.asked, each.steered), await likely(engine, each.asked, each.plain))
                for each in pairs
            ]


async def likely(engine: Engine, asked: str, answer: str) -> float:
    """Returns the mean log-probability of a token of the answer, its end included."""
    head = f"<|im_start|>user\n{asked}<|im_end|>\n<|im_start|>assistant\n"
    before, whole = (
        await engine.encode(head, special=True),
        await engine.encode(f"{head}{answer}<|im_end|>", special=True),
    )
    [scores] = await engine.score([whole])
    return fmean(scores[len(before) - 1 :])


def measure(*, quick: bool) -> Row:
    """Measures the pairs that are kept."""
    pairs = [Pair(**json.loads(line)) for line in PAIRS.read_text("utf-8").splitlines()]
    labels = dict(line.split("\t") for line in LABELS.read_text("utf-8").splitlines())
    better = [labels[str(number)] for number in range(len(pairs))]
    sides = [("AB"[pair.shown[0] == pair.plain], label) for pair, label in zip(pairs, better, strict=True)]
    wins, ties = (
        sum(same) for same in ([side == label for side, label in sides], [label == "=" for label in better])
    )
    found = asyncio.run(likelihoods(pairs[: 4 if quick else None]))
    steered, plain = zip(*found, strict=True)
    less = difference(plain, steered)
    figures = (
        Figure(
            "steered reads worse",
            (100 * (len(pairs) - wins - ties) / len(pairs),),
            "%",
            Goal("≤", 60),
            f"{wins} better, {ties} alike, of {len(pairs)}",
        ),
        Figure("log-likelihood of a token, steered", (fmean(steered),), "nats"),
        Figure(
            "unsteered",
            (fmean(plain),),
            "nats",
            None,
            f"difference {less.value:+.2f}, {less.low:+.2f} to {less.high:+.2f}",
        ),
    )
    return Row(
        "naturalness of steered answers that pass", HOW.format(pairs=len(pairs), drafts=DRAFTS), figures
    )


if __name__ == "__main__":
    PAIRS.write_text(
        "".join(json.dumps(asdict(pair), ensure_ascii=False) + "\n" for pair in asyncio.run(make_all())),
        "utf-8",
    )
