"""Measures mistakes in reading final answers, beside those of lm-eval and math-verify in the same run.

    python benchmarks/evaluate_answers.py          writes its part of RESULTS.md
    python benchmarks/evaluate_answers.py --quick  few solutions, nothing written

The peers run in environments of their own: REDRAFT_LM_EVAL and REDRAFT_MATH_VERIFY name their interpreters.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from itertools import islice, pairwise
from pathlib import Path

from evaluate_answers_peer import BOXED, cases
from evaluate_reviews import MISSING, shared
from measure import Figure, Goal, Row
from redraft.chain import Prompt
from redraft.verify.final import FinalLetter, FinalMaths, FinalNumber
from redraft.verify.maths import same
from report import main

MEASURE = "mistakes in reading final answers, beside lm-eval and math-verify"
HOW = (
    "Tables of our own (`answers.tsv`): texts that end in a number or an option, with a wrong one that a "
    "reader may fall for, and pairs of a gold answer and another that is the same or not. "
    "`answers_held_out.tsv` was written when the readers were finished; they then made 3 mistakes, of which "
    "2 have since been mended. Solutions: those that models made to gsm8k's problems (every fifth), right or "
    "wrong as its authors judged them, and those of MATH-500, each with its own answer and with the next "
    "one's; options: AQuA's rationales. A text is one mistake if its answer is not found or a wrong one is. "
    "lm-eval reads numbers by the flexible filter of its gsm8k, options by that of its bbh, formulas by its "
    "hendrycks_math; math-verify as its README says."
)
NO_PEERS = (
    "Without REDRAFT_LM_EVAL and REDRAFT_MATH_VERIFY (interpreters that have them) nothing is compared."
)
PEERS = {"lm-eval": ("REDRAFT_LM_EVAL", "lm_eval"), "math-verify": ("REDRAFT_MATH_VERIFY", "math_verify")}
HERE = Path(__file__).parent


def answers(*, quick: bool) -> Row:
    """Count mistakes."""
    data, peers = shared(), {name: os.environ.get(variable) for name, (variable, _) in PEERS.items()}
    if data is None:
        return Row(MEASURE, HOW, (), (MISSING,))
    if not all(peers.values()):
        return Row(MEASURE, HOW, (), (NO_PEERS,))
    sets = {name: list(lines) for name, lines in _sets(data, 50 if quick else 1).items()}
    figures = []
    with tempfile.TemporaryDirectory(prefix="redraft-bench-") as folder:
        for what, lines in sets.items():
            table = Path(folder, "table.tsv")
            table.write_text("\n".join(lines), "utf-8")
            truths = [_judged(*case[:3]) == case[3] for case in cases(table)]
            theirs = {
                name: _mistakes(lines, _asked(str(peers[name]), module, table))
                for name, (_, module) in PEERS.items()
            }
            said = "; ".join(f"{name} {count}" for name, count in theirs.items())
            goal = Goal("≤", max(min(theirs.values()) - 1, 0))
            figures.append(
                Figure(f"{what}, of {len(lines):,}", (_mistakes(lines, truths),), "texts", goal, said)
            )
    versions = ", ".join(f"{name} {_version(str(peers[name]), name)}" for name in PEERS)
    return Row(MEASURE, HOW, tuple(figures), (f"Versions of the peers: {versions}.",))


def _sets(data: Path, step: int) -> dict[str, Iterable[str]]:
    found: dict[str, Iterable[str]] = {}
    for name, suffix in (("answers", ""), ("answers_held_out", ", held out")):
        lines = (HERE / f"{name}.tsv").read_text("utf-8").splitlines()
        for what, kinds in (("tricky texts", ("number", "letter")), ("pairs", ("same", "other"))):
            found[what + suffix] = [line for line in lines if line.startswith(kinds)]
    found["solutions to gsm8k"] = islice(_gsm8k(data), 0, None, 5 * step)
    found["solutions of MATH-500"] = islice(_maths(data), 0, None, step)
    return found | {"rationales of AQuA": islice(_options(data), 0, None, step)}


def _records(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def _line(*cells: str) -> str:
    return "\t".join(" ".join(cell.split("\t")).replace("\r", "").replace("\n", "⏎") for cell in cells)


def _gsm8k(data: Path) -> Iterator[str]:
    for record in _records(data / "gsm8k" / "example_model_solutions.jsonl"):
        gold = record["ground_truth"].rsplit("A:", 1)[1].strip()
        for made in [value for value in record.values() if isinstance(value, dict)]:
            known = (gold, "") if made["is_correct"] else ("", gold)
            yield _line("number", *known, made["solution"])


def _maths(data: Path) -> Iterator[str]:
    for one, after in pairwise(_records(data / "math" / "math_500_test.jsonl")):
        other = "" if same(one["answer"], after["answer"]) else after["answer"]
        yield _line("maths", one["answer"], other, one["solution"])


def _options(data: Path) -> Iterator[str]:
    for name in ("dev", "test"):
        for record in _records(data / "math" / f"aqua_{name}.jsonl"):
            yield _line("letter", record["correct"], "", record["rationale"])


def _judged(kind: str, gold: str, text: str) -> bool:
    if kind == "number":
        return bool(FinalNumber.of(gold).check(text, Prompt()).passed)
    if kind == "letter":
        return bool(FinalLetter(gold).check(text, Prompt()).passed)
    return bool(FinalMaths.of(gold).check(BOXED.format(text) if kind == "pair" else text, Prompt()).passed)


def _asked(python: str, module: str, table: Path) -> list[bool]:
    peer = HERE / "evaluate_answers_peer.py"
    done = subprocess.run([python, peer, module, table], check=True, capture_output=True, text=True)
    return list(json.loads(done.stdout.splitlines()[-1]))


def _version(python: str, package: str) -> str:
    command = [python, "-c", f"import importlib.metadata as m; print(m.version({package!r}))"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _mistakes(lines: list[str], right: list[bool]) -> int:
    """Count the lines of which a case was judged wrongly. A line has a case for each answer that it gives."""
    verdicts, wrong = iter(right), 0
    for line in lines:
        kind, *given, _ = line.split("\t")
        count = 1 if kind in {"same", "other"} else sum(map(bool, given))
        of_line = list(islice(verdicts, count))
        wrong += not all(of_line)
    return wrong


if __name__ == "__main__":
    sys.exit(main("benchmarks/evaluate_answers.py", __doc__, {"answers": answers}))
