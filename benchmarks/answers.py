"""Measure how often redraft and math-verify judge final answers wrongly, in the same run.

    python benchmarks/answers.py          writes results/answers.json
    python benchmarks/answers.py --quick  few solutions, nothing written

A line of `answers.tsv` contains set, kind, reference, label (`right` or not) and text (⏎ is a line end).
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from importlib.metadata import version
from itertools import islice, pairwise
from pathlib import Path

from material import shared
from measure import Figure, Goal, Row
from redraft.chain import Prompt
from redraft.checks.final import FinalLetter, FinalMaths, Number
from redraft.checks.maths import same
from report import main

TABLE = Path(__file__).with_name("answers.tsv")
MEASURE = "final answers judged wrongly, beside math-verify"
HOW = (
    "A case is a text, a reference, and a strict reader's verdict on the text. A judge that disagrees is "
    "wrong. Our own cases (`answers.tsv`) have other scripts and locales, hedges, negations, equations, "
    "lists, units, texts that continue after the answer, and texts without an answer. We wrote them all. "
    "Seen: used to improve the readers. Held out: wrong verdicts were only counted meanwhile. Known: "
    "cases with which earlier readers were tested. Then come models' solutions to GSM8K, judged by its "
    "authors; solutions of MATH-500, each with its own reference and the next one's; and AQuA's rationales. "
    "math-verify reads letters as strings, and the rest as its README says."
)
OURS = {"number": Number.of, "choice": FinalLetter, "maths": FinalMaths.of}
Case = tuple[str, str, bool, str]  # kind, reference, whether the text is right, text


def table(path: Path = TABLE) -> dict[str, list[Case]]:
    found: dict[str, list[Case]] = defaultdict(list)
    for line in path.read_text("utf-8").splitlines():
        name, kind, reference, label, text = line.split("\t")
        found[name].append((kind, reference, label == "right", text.replace("⏎", "\n")))
    return found


def ours(kind: str, reference: str, text: str) -> bool:
    return bool(OURS[kind](reference).check(text, Prompt()).passed)


def theirs(kind: str, reference: str, text: str) -> bool:
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, StringExtractionConfig, parse, verify

    letters = [StringExtractionConfig(strings=tuple("ABCDE"))]
    read = letters if kind == "choice" else [LatexExtractionConfig(), ExprExtractionConfig()]
    gold = reference if kind == "choice" else f"${reference}$"
    return bool(verify(parse(gold, read), parse(text, read)))


def answers(*, quick: bool) -> Row:
    sets, data, figures = table(), shared(), []
    step = 50 if quick else 1
    sets["solutions to GSM8K"] = [*islice(_gsm8k(data), 0, None, 5 * step)]
    sets["solutions of MATH-500"] = [*islice(_maths(data), 0, None, step)]
    sets["rationales of AQuA"] = [*islice(_options(data), 0, None, step)]
    for name, cases in sets.items():
        wrong = {judge: [c for c in cases if judge(c[0], c[1], c[3]) != c[2]] for judge in (ours, theirs)}
        goal = Goal("≤", len(wrong[theirs]) // 3 if name in {"seen", "held"} else len(wrong[theirs]))
        by_kind = "; ".join(
            f"{judge.__name__} {kind} {sum(c[0] == kind for c in wrong[judge])}"
            for judge in wrong
            for kind in sorted({c[0] for c in cases})
        )
        what = {"held": "held out"}.get(name, name)
        said = f"math-verify {len(wrong[theirs])} ({by_kind})"
        figures.append(Figure(f"{what}, of {len(cases):,}", (len(wrong[ours]),), "texts", goal, said))
    return Row(MEASURE, HOW, tuple(figures), (f"Version of the peer: math-verify {version('math-verify')}.",))


def _records(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def _gsm8k(data: Path) -> Iterator[Case]:
    for record in _records(data / "gsm8k" / "example_model_solutions.jsonl"):
        gold = record["ground_truth"].rsplit("A:", 1)[1].strip()
        for made in [value for value in record.values() if isinstance(value, dict)]:
            yield "number", gold, made["is_correct"], made["solution"]


def _maths(data: Path) -> Iterator[Case]:
    for one, after in pairwise(_records(data / "math" / "math_500_test.jsonl")):
        yield "maths", one["answer"], True, one["solution"]
        yield "maths", after["answer"], same(one["answer"], after["answer"]), one["solution"]


def _options(data: Path) -> Iterator[Case]:
    for name in ("dev", "test"):
        for record in _records(data / "math" / f"aqua_{name}.jsonl"):
            yield "choice", record["correct"], True, record["rationale"]


if __name__ == "__main__":
    sys.exit(main("benchmarks/answers.py", __doc__, {"answers": answers}))
