"""Set the options of a feedback chain from a record, and clean up finished chains.

`revise` makes the chain. SelFee's three methods are combinations of two settings. `gold` shows the critic the
record's gold answer. `first` takes the first answer from the record. With `verify`, a check that knows the
gold number or the unit tests decides the verdicts, and no critic is asked.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from redraft.chain import Chain, Step, best_step, meta_of
from redraft.chain.selfee import has_heading
from redraft.chain.texts import answer_of, gold_answers, gold_text, gold_texts
from redraft.checks.base import Check
from redraft.checks.code import code_check_of
from redraft.checks.final import Number
from redraft.checks.sandbox import find_sandbox
from redraft.data.generate.leaks import leaks, refusals
from redraft.errors import CheckSyntaxError, EmptyReply, RecordError, UsageError
from redraft.jobs.causes import in_words
from redraft.jobs.counting import counted
from redraft.jobs.licences import MOST_ORIGINS, Source, origin_of, rest_of
from redraft.revision.words import Summary

Verify = Literal["number", "code"]
"""The check that decides the verdicts: the last number equals the gold number, or the unit tests pass."""

_KEY = "generated"  # the field of `meta` for the marks that `generate chains` puts on a chain

_MARKS = ("gold", "first", "verify", "cleaned", "leaks", "refusals", "markers")


@dataclass
class ChainCounts(Summary):
    """Counts over the chains of a file."""

    verdicts: Counter[str] = field(default_factory=Counter)  # verdicts of feedback
    cleaned: Counter[str] = field(default_factory=Counter)  # texts that each clean-up rule changed
    leaking: int = 0  # chains in which a text quotes the gold answer
    marked: int = 0  # chains in which a text has a heading of SelFee's format (`chain.selfee`)
    refused: int = 0  # chains whose best answer or a feedback is a refusal
    refusals: Counter[str] = field(default_factory=Counter)  # refusals by part: `answer` or `feedback`
    sources: set[Source] = field(default_factory=set)  # the data sets of the records, with their licences

    def add(self, chain: Chain) -> None:
        """Count a finished chain."""
        super().add(chain)
        marks = meta_of(chain, _KEY)
        self.verdicts.update(step.feedback.verdict for step in chain.steps if step.feedback)
        self.cleaned.update(marks.get("cleaned", {}))
        self.leaking += bool(marks.get("leaks"))
        self.marked += bool(marks.get("markers"))
        refused = Counter(str(each["part"]) for each in marks.get("refusals", ()))
        self.refused += bool(refused)
        self.refusals += refused
        source = Source("data", *origin_of(chain.meta, chain.id.partition("/")[0]))
        known = source in self.sources or len(self.sources) < MOST_ORIGINS
        self.sources.add(source if known else Source("data", "other data", rest_of(source.licence)))

    def rows(self) -> list[tuple[str, str]]:
        """Return the lines of the summary, as pairs of a name and a text."""
        parts = [("answer", "best answer"), ("feedback", "feedback")]
        where = ", ".join(counted(self.refusals[part], name) for part, name in parts if self.refusals[part])
        quotes = f"{counted(self.leaking, 'chain')} with a quote of the gold answer"
        refused = f"{counted(self.refused, 'chain')} with a refusal: {where}"
        heading = f"{counted(self.marked, 'chain')} with a heading of SelFee's format: `### Feedback 1:`"
        marks = [
            ("verdicts", in_words(self.verdicts) or "none"),
            ("cleaned", in_words(self.cleaned)),
            ("leaks", quotes if self.leaking else ""),
            ("refusals", refused if self.refused else ""),
            ("markers", heading if self.marked else ""),
        ]
        return super().rows() + [(name, text) for name, text in marks if text]


@dataclass(frozen=True)
class ChainMaking:
    """The settings by which records become chains."""

    gold: bool = False  # show the critic the gold answer, with its rationale
    # Begin with the record's answer. A gold answer counts only if neither critic nor check uses it.
    first: bool = False
    verify: Verify | None = None  # let a check with the gold answer give the verdicts
    checks: tuple[str, ...] = ()  # other checks

    @classmethod
    def of(cls, values: Mapping[str, Any], *, run_code: bool = False) -> Self:
        """Return the settings given by the flags in `values`, or raise a UsageError."""
        asking = {"--gold": values.get("gold"), "--critic": values.get("critic")}
        asking["--accept-score"] = values.get("accept_score") is not None
        asking["--mode prompted"] = values.get("mode") == "prompted"
        if values.get("verify") and (other := next((flag for flag in asking if asking[flag]), None)):
            out = "Add --no-gold" if other == "--gold" else f"Leave out {other}"
            said = f"--verify and {other} were given, but with --verify no critic is asked."
            raise UsageError(said, hint=f"{out}, or leave out --verify.")
        if values.get("verify") == "code":
            if not run_code:
                hint = "Add --run-code. docs/checks.md#code says what the sandbox covers."
                message = "--verify code needs --run-code, because redraft runs programs that a model wrote."
                raise UsageError(message, hint=hint)
            find_sandbox()
        gold, first, checks = bool(values.get("gold")), bool(values.get("first")), values.get("check", ())
        return cls(gold, first, values.get("verify"), tuple(checks))

    @property
    def stand_ins(self) -> dict[str, Any]:
        """Placeholders for the options whose values come from each record."""
        found: dict[str, Any] = {"gold": "?"} if self.gold else {}
        if self.first:
            found["given"] = "?"
        if self.verify:
            found["checks"] = (*self.checks, "number=0")
        return found

    def options(self, record: Chain) -> dict[str, Any]:
        """Return the options of `revise` for a record."""
        options: dict[str, Any] = {}
        if self.gold:
            options["gold"] = self._needed(gold_text(record), record, "a gold answer", "--gold")
        if self.first:
            # The writer sees the first answer, so it must not be a gold answer that judges the chain.
            secret = bool(self.gold or self.verify)
            what = "an answer other than the gold one" if secret and gold_text(record) else "an answer"
            first = record.answer if secret else answer_of(record)
            options["given"] = self._needed(first, record, what, "--first")
        if self.verify == "code":
            options["checks"] = (*self.checks, _code(record))
        elif self.verify:
            gold = self._needed("".join(gold_answers(record)[:1]), record, "a gold answer", "--verify")
            try:
                options["checks"] = (*self.checks, Number.of(gold))
            except CheckSyntaxError:
                hint = "Give gold answers that are numbers, as in GSM8K. Or leave out --verify number."
                fault = f"{record.id}: the gold answer {gold!r:.40} is not a number."
                raise RecordError(fault, hint=hint) from None
        return options

    def _needed(self, text: str, record: Chain, what: str, flag: str) -> str:
        if text.strip():
            return text
        hint = f"Leave out {flag}, or move records like this one to another file."
        raise RecordError(f"{record.id}: {flag} needs {what}, but there is none.", hint=hint)

    def finished(self, chain: Chain, record: Chain) -> Chain:
        """Clean up a chain. Its `meta` then lists the changes, quotes of the gold answer, and refusals."""
        for step in chain.steps:  # `filtered` may refer to the criticism of the step
            if step.finish == "filtered" and (step.feedback is None or step.feedback.by == "checks"):
                raise EmptyReply(f"{chain.id}: the server's content filter cut an answer.")
        chain, counts = cleaned(chain)
        golds = gold_texts(record) if self.gold or self.verify else []
        found = [leak._asdict() for leak in leaks(chain, golds)]
        texts = (text for step in chain.steps for text in (step.answer, step.criticism))
        refused = [refusal._asdict() for refusal in refusals(chain)]
        making = (self.gold, self.first, self.verify, dict(counts))
        values = (*making, found, refused, sum(map(has_heading, texts)))
        marks = {name: value for name, value in zip(_MARKS, values, strict=True) if value}
        others = {name: value for name, value in chain.meta.items() if name != _KEY}
        before = meta_of(chain, _KEY)  # the record's own marks, such as the request that generated its task
        marks = {name: value for name, value in before.items() if name not in _MARKS} | marks
        return chain.model_copy(update={"meta": {**others, _KEY: marks} if marks else others})


def _code(record: Chain) -> Check:
    try:
        check = code_check_of(record.meta)
    except UsageError as error:
        raise RecordError(f"{record.id}: {error.message}", hint=error.hint) from None
    if check is None:
        hint = "Put them into `tests` of `meta`, as in MBPP and HumanEval: docs/checks.md#code."
        raise RecordError(f"--verify code needs tests, but {record.id} has none.", hint=hint)
    return check


# Remove the remarks and apologies that teachers add to revisions. The rules for texts are SelFee's.
# Each rule looks for a few English phrases, and never leaves a text empty. Another rule drops an empty last
# revision. No rule changes a first answer.

_SENTENCE = r"[^.!?\n]*(?:[.!?](?!\s|$)[^.!?\n]*)*[.!?:]"
_START = re.compile(rf"\A\s*+({_SENTENCE})\s++(?=\S)")
_END = re.compile(rf"(?:\A|(?<=[.!?])\s|\n)\s*({_SENTENCE})\s*\Z")

_APOLOGY = re.compile(
    r"\W*(?:\w+[,!] )?(?:I (?:sincerely )?apologi[sz]e|my apologies|(?:I'?m |I am )?(?:so |very )?sorry)\b",
    re.IGNORECASE,
)
_SAYS_MORE = re.compile(r"\d|\b(?:can(?:['’]t|not| not)|won['’]t|unable|not able)\b", re.IGNORECASE)
"""Matches a reason to keep a sentence: a refusal, or a number that a check may have judged."""
_ANSWER = r"(?:answer|version|response|text|sentence|paragraph|code|draft)"
_CHANGED = r"(?:revised|corrected|updated|changed|rewritten|fixed)"
_RESULT = r"(?:is|are)\s+(?!(?:now|more|much|clear|better|short|accurate|complete|concise))"
_REMARK = re.compile(
    rf"\b(?:this|the|my|that) (?:\w+ )?(?:revision|{_CHANGED} {_ANSWER})\b(?!\s+{_RESULT})"
    rf"|\b(?:these|the|my) (?:\w+ )?(?:revisions|corrections|changes)\b.*\b{_ANSWER}\b"
    rf"|\bI(?:'ve| have)? (?:\w+ )?{_CHANGED} (?:it|this|that|(?:the|my) (?:\w+ )?{_ANSWER})\b"
    rf"|\bhere(?:'s| is| are) (?:the|my|a|an) (?:\w+ )?(?:{_CHANGED}|new)\b",
    re.IGNORECASE,
)
"""Matches remarks about the revision, but not "The corrected answer is 42." or "The changes of the tide"."""

_LONGEST = 500
"""The maximum length of a remark. Matching a longer text would take quadratic time."""

_CONTENT = re.compile(r":\s*\S")


def without_apologies(text: str) -> str:
    """Remove an answer's first sentence if that sentence only apologises."""
    found = _START.match(text)
    removed = found and _APOLOGY.match(found[1]) and not _SAYS_MORE.search(found[1])
    return text[found.end() :] if found and removed else text


def without_remarks(text: str) -> str:
    """Remove an answer's first sentence, last sentence or both if they are about the revision itself."""
    if (found := _START.match(text)) and _is_remark(found[1]):
        text = text[found.end() :]
    end = max(len(text) - _LONGEST, 0)
    if (found := _END.search(text[end:])) and _is_remark(found[1]) and text[: end + found.start()].strip():
        text = text[: end + found.start()].rstrip()
    return text


def _is_remark(sentence: str) -> bool:
    says_more = _CONTENT.search(sentence) or _SAYS_MORE.search(sentence)
    return len(sentence) <= _LONGEST and bool(_REMARK.search(sentence)) and not says_more


OF_ANSWERS: Mapping[str, Callable[[str], str]] = {"apologies": without_apologies, "remarks": without_remarks}


def cleaned(chain: Chain) -> tuple[Chain, Counter[str]]:
    """Return the cleaned chain, and the number of texts that each rule changed."""
    counts = Counter[str]()

    def clean(step: Step) -> Step:
        text = step.answer
        for name, rule in OF_ANSWERS.items():
            changed = rule(text)
            counts[name] += changed != text
            text = changed
        return step.model_copy(update={"answer": text})

    steps = (*chain.steps[:1], *map(clean, chain.steps[1:]))
    best = chain.best
    last = steps[-1] if len(steps) > 1 else None
    if last and not (last.answer.strip() or last.tool_calls or last.feedback):
        counts["empty"] += 1
        steps = steps[:-1]
        best = best_step(steps)
    return chain.model_copy(update={"steps": steps, "best": best}), +counts
