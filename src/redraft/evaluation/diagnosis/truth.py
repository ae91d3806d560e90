"""Find out which answers of a chain are right, by the checks of the task, of the user or of the chain.

`evaluation.tasks` stores the check results in `meta["eval"]`. A text that is no answer (`is_answer`) is
never right, even if all checks pass. `preferences` reads the verdicts of a judge instead.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from redraft.chain import Chain, Step
from redraft.chain.read.files import decode
from redraft.chain.read.records import RawRecord, raw_records
from redraft.checks.base import Check
from redraft.errors import RecordError
from redraft.evaluation.diagnosis.strategies import REVIEWED
from redraft.evaluation.judging.pairs import AskedQuestion, GivenAnswer, Match
from redraft.evaluation.judging.reviews import Review, read_reviews
from redraft.evaluation.records import item_of
from redraft.evaluation.reports.inputs import record_kind
from redraft.evaluation.tasks.tally import Judged, Truth, truth_of
from redraft.evaluation.tasks.tasks import KEY, all_pass, empty_answers, is_answer, results_of
from redraft.jobs.counting import counted
from redraft.jobs.provenance import RunFile, differences

OWN = "own checks"  # the task name of chains that are scored by their own checks
SCORE = "given checks"  # the task name of chains that are scored by checks of the user


@dataclass(frozen=True)
class Known:
    """A chain with the check results that decide which answers are right."""

    chain: Chain
    truth: Truth  # by its task, by the user's checks (`SCORE`) or by its own (`OWN`)

    @cached_property
    def rights(self) -> tuple[bool, ...]:
        """Whether each answer is right."""
        pairs = zip(self.passes, self.chain.steps, strict=True)
        return tuple(passed and is_answer(step) for passed, step in pairs)

    @cached_property
    def passes(self) -> tuple[bool, ...]:
        """Whether each text passes all scoring checks, even if it is no answer (`is_answer`)."""
        return tuple(map(all_pass, self.truth.steps))

    @cached_property
    def cuts(self) -> tuple[bool, ...]:
        """Whether the token limit cut off each answer."""
        return tuple(step.finish == "max_tokens" and not step.complete for step in self.chain.steps)

    @property
    def first(self) -> bool:
        """Whether the first answer is right."""
        return self.rights[0]

    @property
    def item(self) -> str:
        """The item of the chain (`item_of`)."""
        return item_of(self.chain)

    @property
    def best(self) -> bool:
        """Whether the best answer is right. False if there is no best answer."""
        return self.chain.best is not None and self.rights[self.chain.best]

    @property
    def empty(self) -> bool:
        """Whether the model gave no answer at all."""
        return not any(step.answer.strip() for step in self.chain.steps)

    @property
    def tokens(self) -> float:
        """The number of generated tokens; NaN if unknown."""
        return self.chain.usage.completion_tokens or (0 if self.empty else math.nan)

    @property
    def guided(self) -> Set[str]:
        """The names of the checks that guided revising, in order."""
        return dict.fromkeys(result.name for step in self.chain.steps for result in step.checks).keys()

    @property
    def scored(self) -> Set[str]:
        """The names of the checks that decide which answers are right, in order."""
        return dict.fromkeys(each.name for found in self.truth.steps for each in found).keys()


class Material(NamedTuple):
    """The chains whose answers can be judged right or wrong, and the ids of the other chains."""

    chains: tuple[Known, ...]
    left_out: Mapping[str, tuple[str, ...]]  # ids of chains that are not counted, by reason


def chains_in(files: Sequence[Path]) -> Iterator[Chain]:
    """Yield the chains of files. Chains with the same id are one item.

    Raise `RecordError` if there is no answer, or if runs with the same input differ in more than the seed.
    """
    if twice := [file for file in files if sum(each.resolve() == file.resolve() for each in files) > 1]:
        raise RecordError(f"{twice[0]} was given twice.", hint="Give each file once.")
    _check_alike(files)
    count, answered = 0, False
    for file in files:
        for chain in chains_of(file):
            count, answered = count + 1, answered or bool(chain.steps)
            yield chain
    names = ", ".join(map(str, files))
    if not count:
        hint = f"{_GIVE} If a run stopped, repeat its command."
        raise RecordError(f"there is no chain in {names}.", hint=hint)
    if not answered:
        none = f"there is no answer in {names} ({counted(count, 'record')})."
        hint = f"{_GIVE} Or compare ways to answer: redraft diagnose FOLDER --tasks {files[0]}"
        raise RecordError(none, hint=hint)


def _check_alike(files: Sequence[Path]) -> None:
    seen = dict[str, tuple[Path, dict[str, Any]]]()
    for file, record in ((file, RunFile(file).read()) for file in files):
        if not record or "sha256" not in (record.get("source") or {}):
            continue
        way = {"way": file.stem} if str(record.get("command")).startswith("diagnose") else {}
        made = {"config": {**(record.get("config") or {}), **way, "seed": None}}
        other, before = seen.setdefault(record["source"]["sha256"], (file, made))
        if found := [*differences(before, made, None)]:
            said = f"{other} and {file} differ in more than the seed: {'; '.join(found)}."
            hint = f"Diagnose each alone, or compare them: redraft report {other} {file}"
            raise RecordError(said, hint=hint)


def chains_of(file: Path) -> Iterator[Chain]:
    """Yield a file's chains, then a chain for each empty answer in the file's `.errors.jsonl`."""
    done = set[str]()
    for raw in raw_records(file):
        if not raw.number:
            _check_kind(raw, file)
        chain = raw.chain()
        done.add(chain.id)
        yield chain
    yield from empty_answers(file, done)


def leaked(files: Iterable[Path]) -> str:
    """Return the name of a scoring check that revealed the wanted text, such as `contains:rain`, or ""."""
    answered = ([*chains_of(file)] for file in files)
    for each in (each for made in answered if any(c.steps for c in made) for each in known(made).chains):
        for name in each.guided & each.scored:
            kind, _, text = name.partition(":")
            if kind.startswith("contains") and text.lower() not in each.chain.prompt.text.lower():
                return name
    return ""


def _check_kind(first: RawRecord, file: Path) -> None:
    kind = ""
    with suppress(RecordError):
        kind = record_kind(decode(first.data, first.where), first.where)
    if kind not in ("", "chains"):
        hint = f"{_GIVE} For {kind}: redraft report {file}"
        raise RecordError(f"{first.where}: the file has {kind}, not chains.", hint=hint)
    try:
        first.chain()
    except RecordError as error:
        is_way = file.suffix == ".yaml"
        error.hint = f"To verify a file of --choose: redraft diagnose {file} --verify" if is_way else _GIVE
        raise


_GIVE = "Give chains: the output of redraft eval or redraft answer."


def known(chains: Iterable[Chain]) -> Material:
    """Find out which answers are right from `meta["eval"]`. If no chain has it, the chains' checks decide."""
    found = list(chains)
    read = _told if any(_about(chain) for chain in found) else _own
    good, left_out = [], dict[str, list[str]]()
    for chain in found:
        one = read(chain) if chain.steps else "no answer"
        if isinstance(one, Known):
            good.append(one)
        else:
            left_out.setdefault(one, []).append(chain.id)
    if good:
        good.sort(key=lambda each: each.item)  # else intervals, which are random, depend on the files' order
        return Material(tuple(good), {why: tuple(ids) for why, ids in left_out.items()})
    if not any(step.answer.strip() for chain in found for step in chain.steps):
        raise RecordError("no chain has an answer.", hint="Give an output file of `redraft answer`.")
    raise RecordError(
        "nothing decides which answers are right: the chains have neither scores nor checks.",
        hint="Give a check: --score 'words<=50'. Or answer a task: redraft eval gsm8k test.jsonl -o a.jsonl",
    )


def _about(chain: Chain) -> Mapping[str, Any]:
    about = chain.meta.get(KEY)
    return about if isinstance(about, Mapping) and about.get("steps") else {}


def _told(chain: Chain) -> Known | str:
    if not _about(chain):
        return "no score"
    try:
        truth = truth_of(chain)
    except RecordError:
        return "the score cannot be read"
    if truth is None or len(truth.steps) != len(chain.steps):
        return "no score for some answers"
    return Known(chain, truth)


def _own(chain: Chain) -> Known | str:
    checked = list[Step]()
    for step in chain.steps:
        same = checked and not step.feedback and step.answer == checked[-1].answer
        checked.append(checked[-1] if same else step)
    if not any(step.answer.strip() for step in chain.steps):
        return "empty"
    if not all(step.checks or step.echo for step in checked):
        return "some answers were not checked" if checked[0].checks else "not checked"
    steps = [
        [Judged(name=each.name, passed=each.passed and step.complete) for each in step.checks]
        for step in checked
    ]
    return Known(chain, Truth(task=OWN, steps=steps))


def with_checks(chains: Iterable[Chain], checks: Sequence[Check]) -> Iterator[Chain]:
    """Yield the chains with the results of `checks` in `meta["eval"]`, to decide which answers are right."""
    for chain in chains:
        about = {"task": SCORE, "steps": asyncio.run(results_of(checks, chain.steps, chain.prompt))}
        yield chain.model_copy(update={"meta": {**chain.meta, KEY: about}})


def pairs_in(file: Path) -> Iterator[Match]:
    """Pair the single answer to each prompt with the answer in `file`, unless both answers are equal."""
    ones = {chain.id: chain.answer for chain in chains_of(file.with_name("plain.jsonl"))}
    for chain in chains_of(file):
        if ones.get(chain.id, chain.answer) != chain.answer:
            one, own = _given("one answer", ones[chain.id]), _given("another way", chain.answer)
            yield Match(AskedQuestion(chain.id, (chain.prompt.said,)), (one, own))


def _given(name: str, text: str) -> GivenAnswer:
    return GivenAnswer(sha256(text.encode("utf-8", "replace")).hexdigest()[:16], name, (text,))


def reviews_in(folder: Path) -> Iterator[Review]:
    """Yield the judge's reviews in all files below a folder."""
    for file in sorted(folder.rglob(f"{REVIEWED.name}.jsonl")):
        yield from (review for _, review in read_reviews(raw_records(file)))


def preferences(file: Path) -> dict[str, float]:
    """Map ids to 1 if `file`'s answer beat the single answer in both orders, -1 if it lost both, else 0."""
    said, found = dict[Any, int](), dict[str, float]()
    for review in reviews_in(file.parent):
        first, second = review.score or (0, 0)  # an unreadable review is a tie
        said[review.question_id, review.answer1_id, review.answer2_id] = (first > second) - (first < second)
    for pair in pairs_in(file) if said else ():
        name, one, own = pair.question.id, *(answer.id for answer in pair.answers)
        lead = said.get((name, own, one), 0)
        found[str(name)] = float(lead) if lead == -said.get((name, one, own), 0) else 0.0
    return found
