"""Turn the numbers of a summary into warnings with advice.

A fault spoils training or forbids use; a warning deserves a look; a note informs. The rules fit SelFee's
released data. Whether a record is true or useful is not judged.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

from redraft.collect.report.stats import DataReport, ranked
from redraft.collect.report.summary import GOLD_LENGTH, GOOD_SCORE, LONG, DataSummary
from redraft.licences import UNKNOWN

MIXED = 0.01  # least share of records in other languages than the main one to report

Level = Literal["fault", "warning", "note"]


@dataclass(frozen=True)
class DataFinding:
    """One finding.

    Attributes:
        count: Number of records, feedbacks or answers concerned.
        advice: Its meaning, or the remedy.
        examples: Places of some of the records, or messages about them.
    """

    name: str
    level: Level
    count: int
    text: str
    advice: str
    examples: tuple[str, ...] = ()


def findings(report: DataReport) -> tuple[DataFinding, ...]:
    """Return the findings of a report, faults first."""
    found = [
        each for part in (_files, _conversations, _feedback, _sets) for each in part(report) if each.count
    ]
    order: list[Level] = ["fault", "warning", "note"]
    return tuple(sorted(found, key=lambda each: order.index(each.level)))


def repeats(hashes: array[int]) -> int:
    """Count the hashes that repeat an earlier one."""
    import numpy as np

    return len(hashes) - len(np.unique(np.frombuffer(hashes, dtype=np.uint64))) if hashes else 0


def _files(report: DataReport) -> Iterator[DataFinding]:
    summary, counted = report.summary, partial(_counted, report.summary)
    records, silent = summary.totals["records"], summary.tables["licences"][UNKNOWN]
    yield DataFinding(
        "empty", "warning", int(not records), "No records.", "The files are empty, or no record can be read."
    )
    yield counted(
        "unreadable",
        "fault",
        "that cannot be read.",
        "They are counted nowhere else. --strict stops at the first.",
    )
    causes = ", ".join(f"{name} ({times:,})" for name, times in ranked(summary.tables["failures"])[:4])
    yield counted(
        "failed",
        "warning",
        f"failed when the chains were made: {causes}.",
        "They are in `FILE.errors.jsonl`. The command that made the chains tries them again.",
    )
    yield counted(
        "dropped",
        "note",
        "dropped because of a quote of the gold answer.",
        "They are in `FILE.leaks.jsonl`, and counted nowhere else.",
        noun="chain",
    )
    yield counted(
        "dropped refusals",
        "note",
        "dropped because of a refusal.",
        "They are in `FILE.refusals.jsonl`, and counted nowhere else.",
        noun="chain",
    )
    yield counted(
        "noncommercial",
        "warning",
        f"not for commercial use, of {records:,}.",
        "Models trained on them may not be used commercially either: keep them apart from the others.",
    )
    yield DataFinding(
        "licence",
        "note",
        silent,
        f"{_many(silent, 'record')} without a licence, of {records:,}.",
        "`redraft data import` records it with the origin.",
    )


def _conversations(report: DataReport) -> Iterator[DataFinding]:
    summary, counted = report.summary, partial(_counted, report.summary)
    why = ", ".join(f"{name} ({times:,})" for name, times in ranked(summary.tables["role faults"])[:4])
    yield counted(
        "roles",
        "fault",
        f"in which user and assistant do not take turns: {why}.",
        "`redraft data clean` repairs or drops them.",
    )
    yield _counted(summary, "no prompt", "warning", "without a question.", "There is no text to answer.")
    yield counted(
        "no answer",
        "warning",
        f"without an answer or gold answer, of {summary.totals['records']:,}.",
        "They cannot be trained on. `redraft data import` names the fields that it did not use.",
    )
    yield counted(
        "empty answer",
        "fault",
        "with an empty answer.",
        "A model would learn to say nothing: `redraft data clean` drops them.",
    )
    yield counted(
        "html",
        "warning",
        "with tags of HTML in an answer, outside of code.",
        "`redraft data clean --rules html` converts answers that are HTML throughout to markdown.",
    )
    yield counted(
        "markers",
        "warning",
        "with a heading of the text format in an answer or feedback, such as `### Feedback 1:`.",
        "In that format a backslash precedes them; other exports keep them. A model learns to write them.",
    )
    yield counted(
        "cut", "warning", "ending in a text that was cut.", "A limit was reached, or a request failed."
    )
    yield counted(
        "long",
        "warning",
        f"of over {report.long:,} {report.unit}.",
        f"Training cuts them, SelFee's and Vicuna's at {LONG:,} tokens: `redraft data split` divides "
        f"conversations between turns.{'' if report.unit == 'tokens' else ' --tokenizer counts tokens.'}",
    )


def _feedback(report: DataReport) -> Iterator[DataFinding]:
    totals, counted = report.summary.totals, partial(_counted, report.summary)
    yield counted(
        "leak",
        "fault",
        f"with {_many(totals['leaking feedbacks'], 'feedback')} quoting the gold answer, "
        f"{totals['new leaks']:,} of them on an answer without it.",
        f"The teacher saw it, the student never will. Gold answers under {GOLD_LENGTH} characters are not "
        "looked for.",
    )
    yield counted(
        "quote",
        "warning",
        "with a quote of the gold answer, or of a part, after the critic saw it.",
        "`redraft generate chains` marked them in `meta`; with --drop-leaks, it keeps them apart.",
    )
    yield counted(
        "refusal",
        "warning",
        "with a refusal of the teacher, as the best answer or a feedback.",
        "`redraft generate chains` marked them in `meta`; with --refusals drop, it keeps them apart.",
    )
    yield counted(
        "no verdict",
        "warning",
        f"without a verdict, of {totals['written feedbacks']:,}: the phrase “revision is (not) needed”.",
        f"{totals['undecided']:,} of them have no verdict in other words either.",
        noun="feedback",
    )
    yield counted(
        "low score",
        "warning",
        f"naming a score below {GOOD_SCORE:g}, of {totals['last scores']:,} naming one out of 10.",
        "By SelFee's rule these chains should have continued.",
        noun="last feedback",
    )
    yield counted(
        "not accepted", "note", "ending with a feedback that asks for a revision.", "It never came."
    )
    yield counted(
        "unchanged",
        "warning",
        "with a revision that is equal to the answer before it.",
        "A model would learn to repeat itself.",
    )


def _sets(report: DataReport) -> Iterator[DataFinding]:
    summary = report.summary
    again, same = repeats(summary.queries), repeats(summary.texts)
    yield DataFinding(
        "repeated",
        "warning",
        max(again, same),
        f"{_many(again, 'record')} with the first question of an earlier one, {same:,} with all its texts.",
        "Case and white space are ignored. `redraft data dedupe` drops records with all texts the same, --by "
        "query those with the same first question, and --by minhash near-duplicates.",
    )
    known = Counter(summary.tables["languages"])
    del known[UNKNOWN]
    if (total := known.total()) and total - max(known.values()) >= MIXED * total:
        (main, most), *others = ranked(known)
        rest = ", ".join(f"{name} ({times:,})" for name, times in others[:6])
        yield DataFinding(
            "languages",
            "note",
            total - most,
            f"{_many(total - most, 'record')} not in {main}, of {total:,} whose language is clear: {rest}.",
            f"`redraft data clean --languages {main}` keeps those in {main}.",
        )


def _counted(
    summary: DataSummary, name: str, level: Level, text: str, advice: str, *, noun: str = "record"
) -> DataFinding:
    count = summary.totals[name]
    examples = tuple(summary.examples.get(name, ()))
    return DataFinding(name, level, count, f"{_many(count, noun)} {text}", advice, examples)


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
