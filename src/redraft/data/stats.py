"""Describe files of chains: totals, tables and findings.

Findings turn counts into advice, with texts from `findings.yaml`. A fault spoils training, a warning deserves
a look, and a note informs. Verdicts and scores follow SelFee's rules. Whether a record is true or useful is
not judged.

Memory grows by two hashes per record (16 bytes) and one number per distinct length. Repeated hashes are the
duplicates of `redraft data dedupe` with `exact` and `query`. A table counts at most a thousand names.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate, islice, pairwise, zip_longest
from pathlib import Path
from shutil import get_terminal_size
from statistics import fmean
from textwrap import wrap
from typing import Any, Literal

from redraft.chain import Chain, Feedback, meta_of
from redraft.chain.documents import yaml_of
from redraft.chain.read.files import name_of
from redraft.chain.read.records import RawRecord, raw_records
from redraft.chain.selfee import has_heading, score_of
from redraft.chain.texts import FOLLOWS, Turn, answer_of, gold_answers, turns_of
from redraft.chain.write import teacher_score
from redraft.checks.language import language_of
from redraft.data.html_evidence import has_tags
from redraft.data.output import UNREADABLE, Drop, chain_or_drop
from redraft.data.texts import GOLD_LENGTH, generated, is_answered, leaking, text_of
from redraft.data.words import normalised
from redraft.jobs.counting import counted
from redraft.jobs.ids import digest_of
from redraft.jobs.licences import UNKNOWN, forbids_commerce, origin_of
from redraft.jobs.parallel import spread

VERDICT = re.compile(r"revisions? (?:is |are )?(?:not )?needed", re.IGNORECASE)
"""The phrase that states the verdict in SelFee's feedback."""

GOOD_SCORE = 9.0  # answers with a lower score should be revised (SelFee's instruction to the teacher)
LONG = 2048  # length of SelFee's and Vicuna's training sequences, in tokens
DEPTHS = 9  # last step to count separately; later steps are counted together
EXAMPLES = 5  # examples per finding

OTHERS = "(others)"
_MOST, _NAME, _MESSAGE = 1000, 60, 300  # most names to count; most characters of a name, and of a message
_HEAD = 400  # characters of a question and of an answer for language detection

_Count = Callable[[str], int]
"""Returns the length of a text. With several workers, the function must be picklable."""


@dataclass
class DataSummary:
    """Counts of some records. Summaries can be added."""

    totals: Counter[str] = field(default_factory=Counter)
    # How often each value occurs, by name of the table.
    tables: defaultdict[str, Counter[Any]] = field(default_factory=lambda: defaultdict(Counter))
    # Locations of the first records of each warning.
    examples: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    # Hashes of each record's first question, if it has one, and of all its texts.
    queries: array[int] = field(default_factory=lambda: array("q"))
    texts: array[int] = field(default_factory=lambda: array("q"))

    def name(self, table: str, name: str, times: int = 1) -> None:
        """Count a shortened name in a table. If the table is full, new names are counted as `OTHERS`."""
        kinds, name = self.tables[table], name[:_NAME]
        kinds[name if name in kinds or len(kinds) < _MOST else OTHERS] += times

    def warn(self, about: str, where: str) -> None:
        """Count a record for a warning, and keep the record's location as an example."""
        self.totals[about] += 1
        places = self.examples[about]
        if len(places) < EXAMPLES and where not in places:
            places.append(where[:_MESSAGE])

    def __iadd__(self, other: DataSummary) -> DataSummary:
        self.totals.update(other.totals)
        for table, counts in other.tables.items():
            if isinstance(next(iter(counts), None), str):
                for key, times in counts.items():
                    self.name(table, key, times)
            else:
                self.tables[table].update(counts)
        for about, places in other.examples.items():
            self.examples[about] = (self.examples[about] + places)[:EXAMPLES]
        self.queries += other.queries
        self.texts += other.texts
        return self


def add_to(summary: DataSummary, chain: Chain, where: str, source: str, count: _Count) -> None:
    """Add a record to a summary. `source` is the default data set."""
    turns = turns_of(chain)
    asked = turns[:-1] if chain.steps else turns
    own_set = meta_of(chain, "source").get("dataset")
    dataset, licence = origin_of(chain.meta, own_set if isinstance(own_set, str) and own_set else source)
    query = text_of(chain, "query")
    answer = turns[-1].text if len(turns) > len(asked) else ""
    summary.totals["records"] += 1
    summary.tables["turns"][len(turns)] += 1
    summary.name("sources", dataset)
    summary.name("licences", licence)
    summary.name("languages", language_of(f"{query[:_HEAD]} {answer[:_HEAD]}") or UNKNOWN)
    for hashes, text in ((summary.queries, query), (summary.texts, text_of(chain, "all"))):
        if same := normalised(text):
            hashes.append(digest_of(same))
    own, best = [step.answer for step in chain.steps], answer_of(chain)
    prompt = sum(count(turn.text) for turn in asked)
    answers = list(map(count, own or [best] * bool(best)))
    judged = [count(step.criticism) for step in chain.steps if step.feedback]
    whole = prompt + sum(answers) + sum(judged)
    summary.tables["prompt length"][prompt] += 1
    summary.tables["answer length"].update(answers)
    summary.tables["feedback length"].update(judged)
    summary.tables["record length"][whole] += 1
    summary.totals["length"] += whole
    if whole > LONG:
        summary.warn("long", where)
    _note_answers(summary, chain, best, where)
    _note_feedback(summary, chain, where)
    told, new = leaking(chain)
    summary.totals["gold answers"] += bool(gold_answers(chain))
    summary.totals["leaking feedbacks"] += told
    summary.totals["new leaks"] += new
    fault, asks = role_fault(turns), any(turn.text.strip() for turn in asked)
    if asks and fault:
        summary.name("role faults", fault)
    for about, found in (
        ("noncommercial", forbids_commerce(licence)),
        ("no prompt", not asks),
        ("roles", asks and fault),
        ("leak", told),
        ("quote", generated(chain, "leaks")),
        ("refusal", generated(chain, "refusals")),
    ):
        if found:
            summary.warn(about, where)


def _note_answers(summary: DataSummary, chain: Chain, best: str, where: str) -> None:
    answers = [step.answer.strip() for step in chain.steps]
    summary.totals["answers"] += len(answers)
    summary.tables["answers a record"][len(answers)] += 1
    if chain.steps and chain.stop:
        summary.name("stops", chain.stop)
    for name, found in (
        ("no answer", not is_answered(chain)),
        ("html", any(map(has_tags, answers or [best]))),
        ("empty answer", not all(answers)),
        ("unchanged", any(text and text == after for text, after in pairwise(answers))),
        ("cut", bool(chain.steps) and chain.steps[-1].finish != "stop"),
        ("markers", any(has_heading(text) for step in chain.steps for text in (step.answer, step.criticism))),
    ):
        if found:
            summary.warn(name, where)


def _note_feedback(summary: DataSummary, chain: Chain, where: str) -> None:
    for place, step in enumerate(chain.steps, start=1):
        if not (feedback := step.feedback):
            continue
        at, score = min(place, DEPTHS), score_in(feedback)
        summary.totals["feedbacks"] += 1
        summary.tables["verdicts"][at, feedback.verdict] += 1
        if score is not None:
            summary.tables["scores"][at, score] += 1
        if feedback.by in ("model", "both"):
            summary.totals["written feedbacks"] += 1
            if not VERDICT.search(feedback.text):
                summary.warn("no verdict", where)
                summary.totals["undecided"] += feedback.verdict == "unknown"
    last = chain.steps[-1].feedback if chain.steps else None
    if (score := score_in(last) if last else None) is not None:
        summary.totals["last scores"] += 1
        if score < GOOD_SCORE:
            summary.warn("low score", where)
    if last and last.verdict == "revise":
        summary.warn("not accepted", where)


def score_in(feedback: Feedback) -> float | None:
    """Return the feedback's field `score`. Without a number there, return the score in the text, or None."""
    score = teacher_score(feedback)
    return score_of(feedback.text) if score is None else score


def role_fault(turns: Sequence[Turn]) -> str | None:
    """Describe the first turn with a wrong role, or return None. Tool turns may follow assistant turns."""
    before = ""
    for place, turn in enumerate(turns):
        if turn.role == "system" and place == 0:
            continue
        if turn.role not in FOLLOWS:
            return "a system message after the first turn" if turn.role == "system" else "an unknown role"
        if turn.role not in FOLLOWS[before]:
            return f"{turn.role} after {before}" if before else f"{turn.role} speaks first"
        before = turn.role
    return None


_BLOCK = 64  # records to summarise at once: sending each alone would cost more than the work
_Value = str | int | float | None
_Table = list[dict[str, _Value]]  # rows: values by column name. A `share` is from 0 to 1.
_Level = Literal["fault", "warning", "note"]
_LEVELS: tuple[_Level, ...] = ("fault", "warning", "note")


@dataclass(frozen=True)
class DataFinding:
    """A finding: the level, the number of records concerned, and advice."""

    name: str
    level: _Level
    count: int  # number of records, feedbacks or answers concerned
    text: str
    advice: str  # what the finding means, or what to do
    examples: tuple[str, ...] = ()  # locations of some of the records, or messages about them


@dataclass(frozen=True)
class DataReport:
    """A description of files: totals, tables and findings."""

    files: tuple[str, ...]
    unit: str  # unit of lengths, such as `words`
    totals: dict[str, int]
    tables: dict[str, _Table]  # by title
    findings: list[DataFinding]


def describe(
    paths: Sequence[Path],
    count: _Count,
    *,
    unit: str = "words",
    workers: int = 1,
    read: Callable[[int], None] | None = None,
) -> DataReport:
    """Describe files of any known shape. `count` returns a text's length in `unit`.

    `read` is called with the size of each record in bytes. Raise if a file is damaged in its first record.
    """
    total, lines = DataSummary(), _read(paths, read)
    blocks = iter(lambda: tuple(islice(lines, _BLOCK)), ())
    for part in spread(partial(summarize, count=count), blocks, workers):
        total += part
    names = ("records", "answers", "feedbacks", "gold answers")
    totals = {name: total.totals[name] for name in names} | {unit: total.totals["length"]}
    tables, found = dict(_tables(total, unit)), findings(total, unit)
    return DataReport(tuple(map(name_of, paths)), unit, totals, tables, found)


def summarize(lines: Sequence[RawRecord], *, count: _Count) -> DataSummary:
    """Summarise some records."""
    summary, names = DataSummary(), {stem: name_of(Path(stem)) for stem in {line.stem for line in lines}}
    for line in lines:
        chain = chain_or_drop(line, strict=False)
        if isinstance(chain, Drop):
            summary.warn(UNREADABLE, chain.reason)
        else:
            add_to(summary, chain, line.where, names[line.stem], count)
    return summary


def _read(paths: Sequence[Path], read: Callable[[int], None] | None) -> Iterator[RawRecord]:
    for line in (line for path in paths for line in raw_records(path, damaged=True)):
        if read and not line.damage:
            read(len(line.data) + 1)
        yield line


def ranked(counts: Counter[str]) -> list[tuple[str, int]]:
    """Sort names by frequency, most frequent first, then alphabetically."""
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))


def quantile(counts: Counter[Any], share: float) -> Any:
    """Return a quantile of counted values, such as the median for a share of 0.5, or None without values."""
    values, least = sorted(counts), share * counts.total()
    reached = zip(values, accumulate(map(counts.__getitem__, values)), strict=True)
    return next((value for value, seen in reached if seen >= least), None)


def _tables(summary: DataSummary, unit: str) -> Iterator[tuple[str, _Table]]:
    tables = summary.tables
    names = {"turns": "turns a record", "answers a record": "answers a record"}
    names |= {f"{what} length": f"{unit}, {what}" for what in ("prompt", "answer", "feedback", "record")}
    rows: _Table = []
    for name, title in names.items():
        if any(counts := tables[name]):
            mean = round(fmean(counts, weights=counts.values()), 2)
            row = {"name": title, "min": min(counts), "median": quantile(counts, 0.5), "mean": mean}
            rows.append({**row, "95 %": quantile(counts, 0.95), "max": max(counts)})
    if rows:
        yield "numbers", rows
    if len(counts := tables["answers a record"]) > 1:
        yield "answers a record", _shares([(f"{number:,}", counts[number]) for number in sorted(counts)])
    if tables["verdicts"]:
        yield "feedback", _by_step(summary)
    for kind in ("sources", "languages", "licences", "stops"):
        if tables[kind]:
            yield kind, _shares(ranked(tables[kind]))


def _shares(counts: Sequence[tuple[str, int]]) -> _Table:
    total = sum(times for _, times in counts)
    return [{"name": name, "count": times, "share": times / total} for name, times in counts]


def _by_step(summary: DataSummary) -> _Table:
    verdicts, scores = defaultdict[int, Counter[Any]](Counter), defaultdict[int, Counter[Any]](Counter)
    for name, places in (("verdicts", verdicts), ("scores", scores)):
        for (place, value), times in summary.tables[name].items():
            places[place][value] += times
    rows: _Table = []
    for place, judged in sorted(verdicts.items()):
        score = scores[place]
        mean = round(fmean(score, weights=score.values()), 2) if score else None
        counts = {verdict: judged[verdict] for verdict in ("accept", "revise", "unknown")}
        step = f"{place}+" if place == DEPTHS else str(place)
        rows.append({"step": step, **counts, "scores": score.total() or None, "mean": mean})
    return rows


def findings(summary: DataSummary, unit: str) -> list[DataFinding]:
    """Return the findings of a summary, faults first."""
    totals, tables = summary.totals, summary.tables
    again, same = repeats(summary.queries), repeats(summary.texts)
    counts = {**totals, "empty": int(not totals["records"]), "repeated": max(again, same)}
    counts["licence"] = tables["licences"][UNKNOWN]
    figures = {
        "records": totals["records"],
        "role_faults": ", ".join(f"{name} ({n:,})" for name, n in ranked(tables["role faults"])[:4]),
        "unit": unit,
        "long": LONG,
        "how_to_count": "" if unit == "tokens" else " --tokenizer counts tokens.",
        "quotes": counted(totals["leaking feedbacks"], "feedback"),
        "new_leaks": totals["new leaks"],
        "gold_length": GOLD_LENGTH,
        "written": totals["written feedbacks"],
        "undecided": totals["undecided"],
        "good_score": GOOD_SCORE,
        "scores": totals["last scores"],
        "again": counted(again, "record"),
        "same": same,
    }
    path = Path(__file__).with_name("findings.yaml")
    found = []
    for each in yaml_of(path.read_text("utf-8"), path):
        name, count = each["name"], counts.get(each["name"], 0)
        figures["many"] = counted(count, each.get("noun", "record"))
        text, advice = (each[part].format(**figures) for part in ("text", "advice"))
        examples = tuple(summary.examples.get(name, ()))
        found.append(DataFinding(name, each["level"], count, text, advice, examples))
    return sorted((each for each in found if each.count), key=lambda each: _LEVELS.index(each.level))


def repeats(hashes: array[int]) -> int:
    """Count the hashes that repeat an earlier hash."""
    import numpy as np

    return int(np.sum(np.diff(np.sort(np.frombuffer(hashes, dtype=np.int64))) == 0))


_ROWS = 8  # rows of a table to show; JSON has all


def lines(report: DataReport) -> Iterator[str]:
    """Yield the lines of a report: totals, tables and findings."""
    yield " · ".join(counted(number, what.removesuffix("s")) for what, number in report.totals.items())
    for title, table in report.tables.items():
        yield from ("", title)
        cells = _cells(table)
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        for row in cells:
            rest = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
            yield f"  {row[0]:{widths[0]}}  {'  '.join(rest)}".rstrip()
    width = max(min(get_terminal_size().columns, 100) - 11, 40)
    for number, each in enumerate(report.findings):
        yield from ([] if number else ["", "warnings"])
        text = [*wrap(each.text, width), *wrap(each.advice, width), *each.examples[:2]]
        for level, line in zip_longest([each.level], text, fillvalue=""):
            yield f"  {level:7}  {line}"


def _cells(table: _Table) -> list[list[str]]:
    def shown(column: str, value: _Value) -> str:
        if isinstance(value, float):
            return f"{value:.1%}" if column == "share" else f"{value:,.2f}"
        return "" if value is None else value if isinstance(value, str) else f"{value:,}"

    rows = [[shown(*cell) for cell in row.items()] for row in table[:_ROWS]]
    if (more := len(table) - _ROWS) > 0:
        rows += [[f"… {more:,} more", *[""] * (len(table[0]) - 1)]]
    return [["" if name == "name" else name for name in table[0]], *rows]
