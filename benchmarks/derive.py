"""Measure how many demands of prompts redraft derives as checks, and how many derived checks are right.

    python benchmarks/derive.py           seconds; writes results/derive.json
    python benchmarks/derive.py --tune    shows each error on the prompts that were used to write the rules

Everyday prompts, with their checks labelled by hand, are in `derive_prompts.jsonl`. Those marked `held_out`
were labelled before the rules ran on them, and nobody looked at their errors while improving the rules. Right
answers meet all labels. So a count of a part of an answer, or one that a greeting would break, is no label.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from material import records
from measure import Figure, Goal, Row
from redraft.checks.derive import checks_in
from redraft.checks.derive.wording import choice
from redraft.evaluation.stats import proportion
from report import told, write

HERE = Path(__file__).parent
BEFORE = "On six earlier sets, which then improved the rules, 263 of 273 were right, and 263 of 308 found."
Labelled = tuple[str, frozenset[str]]  # a prompt, and the checks that it demands


def everyday(*, held_out: bool) -> list[Labelled]:
    records = map(json.loads, (HERE / "derive_prompts.jsonl").read_text("utf-8").splitlines())
    kept = [each for each in records if each["held_out"] == held_out]
    return [(each["prompt"], frozenset(map(_plain, each["checks"]))) for each in kept]


def _plain(check: str) -> str:
    kind, _, words = check.partition(":")
    return (choice(words.split("|"), alone=kind == "alone") if kind in ("first", "alone") else check).lower()


def ifeval(*, whole: bool) -> Iterator[Labelled]:
    """Yield IFEval's prompts, with their constraints that redraft's own kinds of checks can express.

    `whole` leaves out prompts with other constraints, because a derived check might be a part of one.
    """
    for record in records():
        kinds = (each.partition(":")[2] for each in record["instruction_id_list"])
        found = [*map(of_gold, kinds, record["kwargs"])]
        checks = {_plain(check) for checks in found for check in checks}
        if checks & {"uppercase", "lowercase"} and "english" in record["prompt"].lower():
            checks.add("language:en")  # part of IFEval's english_capital and english_lowercase
        if all(found) or not whole:
            yield record["prompt"], frozenset(_ranges(checks))


def _ranges(checks: set[str]) -> set[str]:
    for unit in ("words", "sentences"):
        ends = sorted(
            (check for check in checks if check.startswith((f"{unit}<=", f"{unit}>="))), reverse=True
        )
        if len(ends) == 2:
            low, high = (end[len(unit) + 2 :] for end in ends)
            checks = (checks - {*ends}) | {f"{unit}=={low}" if low == high else f"{unit}={low}..{high}"}
    return checks


_FORMS = {
    "no_comma": "lacks:,",
    "number_bullet_lists": "bullets=={num_bullets}",
    "end_checker": "ends:{end_phrase}", "json_format": "json",
    "response_language": "language:{language}",
    "english_lowercase": "lowercase", "english_capital": "uppercase", "quotation": 'starts:"|ends:"',
}  # fmt: skip


def of_gold(name: str, values: Mapping[str, Any]) -> list[str]:
    if name in ("number_words", "number_sentences"):
        unit = name.removeprefix("number_")
        count = values[f"num_{unit}"]
        return [f"{unit}>={count}" if values["relation"] == "at least" else f"{unit}<={count - 1}"]
    if name in ("existence", "forbidden_words"):
        words = {"contains": values.get("keywords"), "lacks": values.get("forbidden_words")}
        return [f"{kind}:{word}" for kind, each in words.items() for word in each or ()]
    return [form.strip() for form in _FORMS[name].format(**values).split("|")] if name in _FORMS else []


def judged(labelled: Iterable[Labelled], *, tell: bool = False) -> dict[str, tuple[int, int]]:
    """Return the counts of precision (right, derived) and recall (right, wanted). `tell` prints errors."""
    right = derived = wanted = 0
    for prompt, gold in labelled:
        found = {check.lower() for check in checks_in(prompt)}
        right, derived, wanted = right + len(found & gold), derived + len(found), wanted + len(gold)
        if tell and found != gold:
            print(f"wrong: {sorted(found - gold)}  missed: {sorted(gold - found)}\n    {prompt[-300:]!r}")
    return {"precision": (right, derived), "recall": (right, wanted)}


def _row(name: str, about: str, counts: Mapping[str, tuple[int, int]], *goals: Goal) -> Row:
    how = f"{about} A check is right if a label equals it, number and word included. Wilson's intervals."
    figures = []
    for (figure, (got, of)), goal in zip(counts.items(), goals or (None, None), strict=False):
        rate = proportion(got, of).times(100)
        sides = f"{got} of {of}, interval {rate.low:.1f} to {rate.high:.1f} %"
        figures.append(Figure(figure, (100 * got / of,), "%", goal, sides))
    return Row(f"checks from the prompt: {name}", how, tuple(figures))


def rows() -> Iterator[Row]:
    kept = everyday(held_out=True)
    about = f"{len(kept)} prompts, {sum(not checks for _, checks in kept)} of them without a demand. {BEFORE}"
    yield _row("everyday prompts, held out", about, judged(kept), Goal("≥", 98.0), Goal("≥", 85.0))
    ours = "constraints {} kinds of redraft's own."
    yield _row("IFEval", f"The 228 prompts whose {ours.format('are all')}", judged(ifeval(whole=True)))
    recall = {"recall": judged(ifeval(whole=False))["recall"]}
    yield _row("IFEval, whole", f"All 541 prompts, and their {ours.format('that are')}", recall)


if __name__ == "__main__":
    if "--tune" in sys.argv[1:]:
        print(judged(everyday(held_out=False), tell=True))
    else:
        measured = [*rows()]
        print(*map(told, measured), sep="\n\n")
        write("benchmarks/derive.py", *measured)
