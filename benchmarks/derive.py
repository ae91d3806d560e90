"""Measure how many of the constraints of IFEval's prompts redraft derives as checks, and how many are right.

    python benchmarks/derive.py           seconds; writes its part of RESULTS.md
    python benchmarks/derive.py --tune    the first 241 prompts, and each miss; nothing written

The prompts and their gold constraints are IFEval's, from the shared data beside the checkout. The rules were
written with the first 241 at hand. The figures are of the other 300.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from measure import Figure, Goal, Row
from redraft.stats import proportion
from redraft.verify.derive import checks_in
from report import page, put, section
from wording import SHARED

SCRIPT = "benchmarks/derive.py"
RESULTS = Path(__file__).with_name("RESULTS.md")
TUNED = 241
"""Prompts that the rules were written with."""
PRECISION, RECALL = 97.0, 70.0

Atom = tuple[Any, ...]
"""A constraint in one form, however it was written: `("words", ">=", 300)`."""


def atoms_of_gold(kind: str, values: Mapping[str, Any]) -> frozenset[Atom]:  # noqa: C901  (a case a type)
    """Return a gold constraint in parts: each word to use or to avoid is one."""
    name = kind.partition(":")[2]
    match name:
        case "no_comma":
            return frozenset({("lacks", ",")})
        case "number_words" | "number_sentences":
            unit = name.removeprefix("number_")
            return frozenset({_bound(unit, values["relation"], values[f"num_{unit}"])})
        case "existence":
            return frozenset(("has", word.lower()) for word in values["keywords"])
        case "forbidden_words":
            return frozenset(("lacks", word.lower()) for word in values["forbidden_words"])
        case "frequency":
            relation, count, word = values["relation"], values["frequency"], values["keyword"].lower()
            if count == 1:
                return frozenset({("has" if relation == "at least" else "lacks", word)})
            return frozenset({("times", word, *_bound("", relation, count))})
        case "letter_frequency":
            bound = _bound("", values["let_relation"], values["let_frequency"])
            return frozenset({("letter", values["letter"].lower(), *bound)})
        case "capital_word_frequency":
            return frozenset({_bound("capitals", values["capital_relation"], values["capital_frequency"])})
        case "end_checker":
            return frozenset({("ends", values["end_phrase"].strip().lower())})
        case "json_format":
            return frozenset({("json",)})
        case "response_language":
            return frozenset({("language", values["language"])})
        case "repeat_prompt":
            return frozenset({("repeat", " ".join(values["prompt_to_repeat"].lower().split()))})
        case _:
            return frozenset({(name, *sorted((key, _plain(value)) for key, value in values.items()))})


def _plain(value: Any) -> Any:
    return value.lower().strip() if isinstance(value, str) else value


def _bound(unit: str, relation: str, count: int) -> Atom:
    return (unit, ">=", count) if relation == "at least" else (unit, "<=", count - 1)


def atoms_of_check(check: str) -> frozenset[Atom]:
    """Return a derived check in parts, as gold constraints are."""
    if count := re.fullmatch(
        r"(words|sentences|characters|paragraphs)(<=|>=|==|=)(\d+)(?:\.\.(\d+))?", check
    ):
        unit, op, low, high = count.groups()
        found = []
        if op != "<=":
            found.append((unit, ">=", int(low)))
        if op != ">=":
            found.append((unit, "<=", int(high or low)))
        return frozenset(found)
    kind, _, text = check.partition(":")
    match kind:
        case "ifeval":
            name, _, values = text.partition(" ")
            return atoms_of_gold(name, json.loads(values or "{}"))
        case "lacks" | "contains" | "ends" | "starts":
            return frozenset({("has" if kind == "contains" else kind, text.lower())})
        case _:
            return frozenset({(kind, text) if text else (kind,)})


def judged(records: Iterable[Mapping[str, Any]], *, tell: bool = False) -> dict[str, tuple[int, int]]:
    """Return how many derived checks are right, and how many gold constraints were derived, each of all."""
    right = derived = found = gold = 0
    for record in records:
        checks = checks_in(record["prompt"])
        pairs = zip(record["instruction_id_list"], record["kwargs"], strict=True)
        wanted = [
            (kind, atoms_of_gold(kind, {k: v for k, v in values.items() if v is not None}))
            for kind, values in pairs
        ]
        known = frozenset().union(*(atoms for _, atoms in wanted))
        made = frozenset().union(*map(atoms_of_check, checks))
        wrong = [check for check in checks if not atoms_of_check(check) <= known]
        missed = [kind for kind, atoms in wanted if not atoms <= made]
        right, derived = right + len(checks) - len(wrong), derived + len(checks)
        found, gold = found + len(wanted) - len(missed), gold + len(wanted)
        if tell and (wrong or missed):
            print(f"{record['key']}  wrong: {wrong}  missed: {missed}\n    {record['prompt'][-500:]!r}")
    return {"precision": (right, derived), "recall": (found, gold)}


def measure() -> Row:
    """Measure the prompts that the rules were not written with."""
    counts = judged(_records()[TUNED:])
    how = (
        f"The last 300 of IFEval's 541 prompts; the rules were written with the first {TUNED}. A derived "
        "check is right if the prompt's gold constraints say the same with the same values (`words<=49` is "
        "`less than 50 words`; `lacks` of each of some words is `forbidden_words` with them). A gold "
        "constraint is found if derived checks say all of it. Intervals are Wilson's, at 95 %."
    )
    figures = []
    for name, goal in (("precision", PRECISION), ("recall", RECALL)):
        got, of = counts[name]
        rate = proportion(got, of).times(100)
        sides = f"{got} of {of}, interval {rate.low:.1f} to {rate.high:.1f} %"
        figures.append(Figure(name, (100 * got / of,), "%", Goal("≥", goal), sides))
    return Row("checks from the prompt, by rules", how, tuple(figures))


def _records() -> list[dict[str, Any]]:
    path = SHARED / "data" / "constraints" / "ifeval_541.jsonl"
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and write the part of the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tune", action="store_true", help="the first prompts, with each miss")
    if parser.parse_args(arguments).tune:
        print(judged(_records()[:TUNED], tell=True))
        return 0
    start = time.perf_counter()
    row = measure()
    print(section(row))
    put(RESULTS, SCRIPT, page([row], SCRIPT, (time.perf_counter() - start) / 60))
    return 0


if __name__ == "__main__":
    sys.exit(main())
