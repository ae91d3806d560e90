"""How close `generate chains --estimate` comes to the real cost of five mixes of records."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from measure import Figure, Goal, Row
from teacher import Teacher

MEASURE = "estimate against real cost, five mixes of records"
HOW = (
    "`redraft generate chains --estimate {sample}`, and then the same command without it, against a stand-in "
    "teacher whose chains have one to five answers. At most {most} records of each mix: GSM8K, IFEval, Code "
    "Alpaca, MATH, and a mix of GSM8K and HumanEval (long prompts), three to one. Each figure is the "
    "distance of the estimate from the cost of the whole run."
)
SAMPLE = 100
PRICE = "1000,2000"
"""USD a million tokens, so high that no digit is lost in what is printed."""
SHARED = Path(os.environ.get("REDRAFT_SHARED", Path(__file__).resolve().parents[2] / "shared")) / "data"
MIXES: Mapping[str, Sequence[tuple[str, int]]] = {
    "GSM8K": (("gsm8k/test.jsonl", 1),),
    "IFEval": (("constraints/ifeval_541.jsonl", 1),),
    "Code Alpaca": (("code/code_alpaca_2k.json", 1),),
    "MATH": (("math/math_500_test.jsonl", 1),),
    "GSM8K and HumanEval": (("gsm8k/train.jsonl", 3), ("code/HumanEval.jsonl.gz", 1)),
}
"""Name -> files, each with its share."""


def measure(most: int, _runs: int) -> Row:
    """Estimates and makes each mix."""
    with tempfile.TemporaryDirectory() as folder, Teacher() as teacher:
        figures = [_figure(name, mix, most, Path(folder), teacher.model) for name, mix in MIXES.items()]
    return Row(MEASURE, HOW.format(sample=SAMPLE, most=most), tuple(figures))


def _figure(name: str, mix: Sequence[tuple[str, int]], most: int, folder: Path, model: str) -> Figure:
    source = folder / f"{name}.jsonl"
    shares = sum(share for _, share in mix)
    lines = [line for file, share in mix for line in islice(_records(SHARED / file), most * share // shares)]
    source.write_text("".join(json.dumps(record) + "\n" for record in lines), encoding="utf-8")
    command = ["generate", "chains", source, "-o", source.with_suffix(".out"), "-m", model, "--price", PRICE]
    said = _run([*command, "--parallel", "32", "--estimate", str(SAMPLE)])
    value, low, high = (
        float(each.replace(",", ""))
        for each in re.search(r"([\d.,]+) \(([\d.,]+) to ([\d.,]+)\) USD", said).groups()  # type: ignore[union-attr]
    )
    real = float(re.search(r"cost +([\d.,]+) USD", _run([*command, "--parallel", "32"]))[1])  # type: ignore[index]
    held = "holds" if low <= real <= high else "does not hold"
    sides = f"{len(lines):,} records; estimate {value:.2f}, real {real:.2f}; the interval {held} it"
    return Figure(name, (100 * abs(value / real - 1),), "%", Goal("≤", 10.0), sides)


def _records(path: Path) -> list[dict[str, Any]]:
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as file:
        text = file.read()
    return json.loads(text) if path.suffix == ".json" else [json.loads(line) for line in text.splitlines()]


def _run(arguments: Sequence[object]) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "redraft", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout
