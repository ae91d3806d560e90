"""Count what is in records. Counts of parts, made in any number of processes, add up to those of the whole.

A summary grows by 16 bytes per record, to find repeats, and by one number per distinct length. The number of
names from the data is limited. Repeats are found by the exact rules of `redraft data dedupe`; near-duplicates
are not.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import pairwise
from typing import Any

from redraft.chain import Chain, Feedback
from redraft.chain.selfee import has_heading, score_of
from redraft.chain.texts import FOLLOWS, Turn, answer_of, gold_answers, turns_of
from redraft.chain.write import teacher_score
from redraft.checks.language import language_of
from redraft.data.html.evidence import has_tags
from redraft.data.texts import generated, is_answered, leaking, text_of
from redraft.data.words import normalised
from redraft.jobs.licences import UNKNOWN, forbids_commerce, licence_in

VERDICT = re.compile(r"revisions? (?:is |are )?(?:not )?needed", re.IGNORECASE)
"""The phrase that carries the verdict of a SelFee feedback."""

GOOD_SCORE = 9.0  # answers with a lower score should be revised (SelFee's instruction to the teacher)
LONG = 2048  # length of SelFee's and Vicuna's training sequences, in tokens
DEPTHS = 9  # last step to count separately; later ones are counted together
EXAMPLES = 5  # examples per finding

OTHERS = "(others)"
_KINDS, _NAME, _MESSAGE = 1000, 60, 300  # names to count apart, and characters of a name and a message
_HEAD = 400  # characters of a question and of an answer for language detection

Count = Callable[[str], int]
"""Measures a text. With several workers, a function of a module or a `partial` of one."""


@dataclass
class DataSummary:
    """Counts of some records. Summaries can be added."""

    totals: Counter[str] = field(default_factory=Counter)
    # How often each value occurs, by name of the table.
    tables: defaultdict[str, Counter[Any]] = field(default_factory=lambda: defaultdict(Counter))
    # Places of the first records of each warning.
    examples: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    # Hashes of each record's first question, if it has one, and of all its texts.
    queries: array[int] = field(default_factory=lambda: array("Q"))
    texts: array[int] = field(default_factory=lambda: array("Q"))

    def name(self, table: str, name: str, times: int = 1) -> None:
        """Count a name from the data: shortened, and under `OTHERS` after a thousand names."""
        kinds, name = self.tables[table], name[:_NAME]
        kinds[name if name in kinds or len(kinds) < _KINDS else OTHERS] += times

    def warn(self, about: str, where: str) -> None:
        """Count a record for a warning."""
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


def add_to(summary: DataSummary, chain: Chain, where: str, source: str, count: Count, long: int) -> None:
    """Add a record to a summary. `source` is its data set if it names none; over `long` is very long."""
    turns = turns_of(chain)
    asked = turns[:-1] if chain.steps else turns
    origin, own = chain.meta.get("origin"), chain.meta.get("source")
    licence = licence_in(origin)
    query = next((turn.text for turn in asked if turn.role == "user"), "")
    answer = turns[-1].text if len(turns) > len(asked) else ""
    summary.totals["records"] += 1
    summary.tables["turns"][len(turns)] += 1
    summary.name("sources", _dataset(origin) or _dataset(own) or source)
    summary.name("licences", licence)
    summary.name("languages", language_of(f"{query[:_HEAD]} {answer[:_HEAD]}") or UNKNOWN)
    for hashes, text in ((summary.queries, text_of(chain, "query")), (summary.texts, text_of(chain, "all"))):
        if same := normalised(text):
            hashes.append(hashed(same))
    _note_lengths(summary, chain, asked, where, count, long)
    _note_answers(summary, chain, where)
    _note_feedback(summary, chain, where)
    told, new = leaking(chain)
    summary.totals["gold answers"] += bool(gold_answers(chain))
    summary.totals["leaking feedbacks"] += told
    summary.totals["new leaks"] += new
    fault = role_fault(turns)
    asks = any(turn.text.strip() for turn in asked)
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


def _dataset(value: Any) -> str:
    found = value.get("dataset") if isinstance(value, dict) else None
    return found.strip() if isinstance(found, str) else ""


def _note_lengths(
    summary: DataSummary, chain: Chain, asked: Sequence[Turn], where: str, count: Count, long: int
) -> None:
    prompt = sum(count(turn.text) for turn in asked)
    texts = [step.answer for step in chain.steps] or list(filter(None, [answer_of(chain)]))
    answers = list(map(count, texts))
    judged = {place: count(step.criticism) for place, step in enumerate(chain.steps) if step.feedback}
    whole = prompt + sum(answers) + sum(judged.values())
    steps = enumerate(answers if chain.steps else ())
    summary.tables["answer by step"].update((min(place + 1, DEPTHS), length) for place, length in steps)
    summary.tables["feedback by step"].update(
        (min(place + 1, DEPTHS), length) for place, length in judged.items()
    )
    summary.tables["prompt length"][prompt] += 1
    summary.tables["answer length"].update(answers)
    summary.tables["feedback length"].update(judged.values())
    summary.tables["record length"][whole] += 1
    summary.totals["length"] += whole
    if whole > long:
        summary.warn("long", where)


def _note_answers(summary: DataSummary, chain: Chain, where: str) -> None:
    answers = [step.answer.strip() for step in chain.steps]
    summary.totals["answers"] += len(answers)
    summary.tables["answers a record"][len(answers)] += 1
    if chain.steps and chain.stop:
        summary.name("stops", chain.stop)
    for name, found in (
        ("no answer", not is_answered(chain)),
        ("html", any(map(has_tags, answers or [answer_of(chain)]))),
        ("empty answer", not all(answers)),
        ("unchanged", any(text and text == after for text, after in pairwise(answers))),
        ("cut", bool(chain.steps) and chain.steps[-1].finish != "stop"),
        ("markers", any(has_heading(text) for step in chain.steps for text in (step.answer, step.criticism))),
    ):
        if found:
            summary.warn(name, where)


def _note_feedback(summary: DataSummary, chain: Chain, where: str) -> None:
    """Count verdicts and scores by place; 1 is the feedback on the first answer."""
    for place, step in enumerate(chain.steps, start=1):
        if not (feedback := step.feedback):
            continue
        at, score = min(place, DEPTHS), score_in(feedback)
        summary.totals["feedbacks"] += 1
        summary.tables["verdicts"][at, feedback.verdict] += 1
        if score is not None:
            summary.tables["scores"][at, score] += 1
        if feedback.by != "checks":
            summary.totals["written feedbacks"] += 1
            if not VERDICT.search(feedback.text):
                summary.warn("no verdict", where)
                summary.totals["undecided"] += feedback.verdict == "unknown"
    last = chain.steps[-1].feedback if chain.steps else None
    score = score_in(last) if last else None
    if score is not None:
        summary.totals["last scores"] += 1
        if score < GOOD_SCORE:
            summary.warn("low score", where)
    if last and last.verdict == "revise":
        summary.warn("not accepted", where)


def score_in(feedback: Feedback) -> float | None:
    """Return the score that a feedback has, or else the one that it names, or None."""
    score = teacher_score(feedback)
    return score_of(feedback.text) if score is None else score


def role_fault(turns: Sequence[Turn]) -> str | None:
    """Return the fault in the order of roles, or None. Tools may speak between the assistant's turns."""
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


def hashed(text: str) -> int:
    """Hash a text to 64 bits: among ten million texts, a collision has a chance of 1 in 370,000."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")
