"""Turn the numbers of a summary into warnings with advice, by the texts in `findings.yaml`.

A fault spoils training or forbids use; a warning deserves a look; a note informs. The rules fit SelFee's
released data. Whether a record is true or useful is not judged.
"""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from redraft.collect.report.stats import DataReport, ranked
from redraft.collect.report.summary import GOLD_LENGTH, GOOD_SCORE, LONG
from redraft.counting import counted
from redraft.formats.documents import yaml_of
from redraft.licences import UNKNOWN

MIXED = 0.01  # least share of records in other languages than the main one to report

Level = Literal["fault", "warning", "note"]
_LEVELS: tuple[Level, ...] = ("fault", "warning", "note")


@dataclass(frozen=True)
class DataFinding:
    """One finding."""

    name: str
    level: Level
    count: int  # number of records, feedbacks or answers concerned
    text: str
    advice: str  # its meaning, or the remedy
    examples: tuple[str, ...] = ()  # places of some of the records, or messages about them


def findings(report: DataReport) -> tuple[DataFinding, ...]:
    """Return the findings of a report, faults first."""
    summary, totals, tables = report.summary, report.summary.totals, report.summary.tables
    again, same = repeats(summary.queries), repeats(summary.texts)
    languages = Counter(tables["languages"])
    del languages[UNKNOWN]
    (main, most), *others = ranked(languages) or [("", 0)]
    foreign = languages.total() - most
    counts = {
        **totals,
        "empty": int(not totals["records"]),
        "licence": tables["licences"][UNKNOWN],
        "repeated": max(again, same),
        "languages": foreign if foreign >= MIXED * languages.total() else 0,
    }
    figures = {
        "records": totals["records"],
        "failures": _named(ranked(tables["failures"])[:4]),
        "role_faults": _named(ranked(tables["role faults"])[:4]),
        "long": report.long,
        "unit": report.unit,
        "usual_long": LONG,
        "how_to_count": "" if report.unit == "tokens" else " --tokenizer counts tokens.",
        "quotes": counted(totals["leaking feedbacks"], "feedback"),
        "new_leaks": totals["new leaks"],
        "gold_length": GOLD_LENGTH,
        "written": totals["written feedbacks"],
        "undecided": totals["undecided"],
        "good_score": GOOD_SCORE,
        "scores": totals["last scores"],
        "again": counted(again, "record"),
        "same": same,
        "main": main,
        "known": languages.total(),
        "others": _named(others[:6]),
    }
    path = Path(__file__).with_name("findings.yaml")
    found = []
    for each in yaml_of(path.read_text("utf-8"), path):
        name, count = each["name"], counts.get(each["name"], 0)
        figures["many"] = counted(count, each.get("noun", "record"))
        text, advice = (each[part].format(**figures) for part in ("text", "advice"))
        examples = tuple(summary.examples.get(name, ()))
        found.append(DataFinding(name, each["level"], count, text, advice, examples))
    return tuple(sorted((each for each in found if each.count), key=lambda each: _LEVELS.index(each.level)))


def repeats(hashes: array[int]) -> int:
    """Count the hashes that repeat an earlier one."""
    import numpy as np

    return len(hashes) - len(np.unique(np.frombuffer(hashes, dtype=np.uint64))) if hashes else 0


def _named(counts: list[tuple[str, int]]) -> str:
    return ", ".join(f"{name} ({times:,})" for name, times in counts)
