"""Check the promise that `redraft diagnose --choose` writes into a recipe: a share of right answers."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from redraft.chain import Chain
from redraft.engines.load import fetches, identity_of
from redraft.errors import OutputError, UsageError, shown
from redraft.jobs.files import locked
from redraft.jobs.machine import cache_folder
from redraft.jobs.provenance import ContentHashes
from redraft.options import Flags, OptionModel, PlainOptions, option

_ERROR = 0.05  # the chance that a kept promise is ever called broken
_ONE = {"mode": "auto", "drafts": 1, "min_revisions": 0, "max_revisions": 0}  # options for one answer
_BETS = [(number + 0.5) / 16 for number in range(16)]  # as in `evaluation.evidence`


def digest_of(reference: str) -> str:
    """Return a digest of a model's files or, for a model on a server, of its name and address."""
    hashes = ContentHashes(cache_folder() / "hashes.json")

    def contents(value: Any) -> Any:
        if isinstance(value, tuple):  # a file's path, size and time
            return hashes.of(Path(value[0]))
        if isinstance(value, Mapping):
            return {name: contents(each) for name, each in value.items()}
        return [*map(contents, value)] if isinstance(value, list) else value

    return _digest(contents(identity_of(reference)))


def digest_of_options(recipe: Mapping[str, Any]) -> str:
    """Return a digest of a recipe's options."""
    return _digest(Flags.read_file(recipe, where="").explicit)


def _digest(value: Any) -> str:
    return sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def types_of(checks: Iterable[Any]) -> list[str]:
    """Return the sorted types of checks without repetition, such as `words` for `words<=50`."""
    return sorted({re.split(r"[^\w-]", str(check), maxsplit=1)[0] for check in checks})


def breaks(promise: Promise, own: Mapping[str, Any], asked: Mapping[str, Any]) -> Iterator[str]:
    """Yield reasons why the promise of a recipe with options `own` does not apply to the options `asked`."""
    if promise.options not in ("", _digest(own)):
        yield "the recipe's options were edited (to see which: redraft diagnose FILE --verify)"
    for name in asked.keys() & {"model", "critic", *PlainOptions.model_fields} - {"seed"}:
        if asked[name] != own.get(name):
            had = f"the recipe's {name.replace('_', '-')} is {own.get(name, 'not set')!s:.80}"
            yield f"{had}, but {asked[name]!s:.80} was given"
    if new := {*types_of(asked.get("check", ()))} - {*promise.checks}:
        yield f"the recipe was chosen without the check {new.pop()}"
    model = own.get("model", "default")
    if asked.get("model", model) == model and not fetches(model) and promise.model != digest_of(model):
        yield "the files of the recipe's model have changed"


class Promise(OptionModel):
    """The promise of a recipe, which `--choose` writes. A user may change only `drift`."""

    way: str = option("the name of the chosen way to answer", default="")
    right: float = option("the smallest share of right answers", default=..., ge=0, le=1)
    gain: float = option("the smallest gain over answering once", default=0.0, ge=-1, le=1)
    harm: float = option("largest share of answers that go from right to wrong", default=1.0, ge=0, le=1)
    tokens: float | None = option("the new tokens of an answer", ge=0)
    seconds: float | None = option("the seconds of an answer", default=None, ge=0)
    usd: float | None = option("the cost of an answer in USD", default=None, ge=0)
    certain: bool = option("whether no other way is better by the margin", default=False)
    prompts: int = option("the number of prompts that were answered", default=0, ge=0)
    margin: float = option("the margin by which another way may be better", default=0.0, ge=0, le=1)
    ways: list[str] = option("the ways that were compared", default=[])
    judge: str = option("the judge of gain and harm; empty if checks decide", default="")
    tasks: list[str] = option("the tasks that were answered", default=[])
    checks: list[str] = option("the types of the tasks' checks", default=...)
    drift: Literal["tell", "one"] = option("the reaction to a broken promise", default="tell")
    watched: bool = option("whether the checks of a run decide which answers are right", default=False)
    evidence: str = option("the folder with the answers", default="")
    model: str = option("the digest of the model", default="")
    options: str = option("the digest of the recipe's options", default="")
    date: str = option("the day of the choice", default="", what="a text in quotes, such as '2026-11-27'")


def promise_of(recipe: dict[str, Any], path: str) -> Promise | None:
    """Remove the promise from a recipe, and return the promise. Raise `UsageError` if it is malformed."""
    told = recipe.pop("promise", None)
    if told is not None and not isinstance(told, Mapping):
        hint = "Run redraft diagnose --choose again, or delete 'promise' from the file."
        raise UsageError(f"{path}: promise is {shown(told)}, but should be keys and values.", hint=hint)
    return None if told is None else Promise.read(told, where=f"{path}: ", table="promise.")


class Watch:
    """Counts answers, and warns once if fewer answers pass than a recipe promised.

    If the recipe keeps its promise, the probability of this warning is at most 5 % (papers:
    `evaluation.evidence`). Another warning, also given once, is about an answer without checks, or with
    checks that the promise does not cover.
    """

    def __init__(self, promise: Promise, recipe: str) -> None:
        self.promise, self.recipe = promise, recipe
        self.count = self.passed = 0
        self.broken = self.strange = False
        self._file: Path | None = None

    @property
    def instead(self) -> dict[str, Any]:
        """Options for one answer per prompt if the promise is broken and `drift` is `one`, otherwise {}."""
        if self.promise.drift != "one" or not self.broken:
            return {}
        return {**_ONE, "steer": False} if self.promise.way.startswith("steered") else {**_ONE}

    def nothing_for(self, checks: Iterable[Any], changed: str = "") -> str:
        """Return why the promise does not cover these checks or the option `changed`, or "" if covered."""
        types = {*types_of(getattr(check, "name", check) for check in checks)}
        if changed:
            which = changed.replace("checks", "check")
            return f"the promise of {self.recipe} does not cover answers with another {which}."
        if not (new := types.difference(self.promise.checks)) and (types or not self.promise.checks):
            return ""
        which = f"with the check {min(new)}" if types else "without checks"
        known = f"Covered checks: {', '.join(self.promise.checks)}."
        known = known if self.promise.checks else "It covers answers without checks."
        return f"the promise of {self.recipe} does not cover answers {which}. {known}"

    def keep_in(self, folder: Path, checks: Sequence[str] = ()) -> str:
        """Continue the counts of earlier runs, stored in a file in `folder`. Return a warning, or ""."""
        self._file = folder / f"{_digest({**self.promise.model_dump(exclude={'drift'}), 'with': checks})}.txt"
        return self._counted()

    def add(self, chain: Chain, changed: str = "") -> str:
        """Count an answer if the promise covers it (see `nothing_for`). Return a warning, or ""."""
        if self.broken or chain.stop == "cancelled":  # a cancellation is not the recipe's fault
            return ""
        names = [result.name for step in chain.steps for result in step.checks]
        if chain.steps and (strange := self.nothing_for(names, changed)):
            told, self.strange = self.strange, True
            return "" if told else strange
        return "" if chain.passed is None else self._counted(chain.passed)

    def _counted(self, *answers: bool) -> str:
        said = ""
        try:
            if self._file:
                self._file.parent.mkdir(parents=True, exist_ok=True)
                with locked(self._file), self._file.open("r+b") as file:
                    with suppress(ValueError):  # the file is new, or a crash emptied it
                        self.count, self.passed, broken = map(int, file.read().split())
                        self.broken = broken > 0
                    self._bet(*answers)
                    file.seek(0)  # in place: renaming a new file takes milliseconds for each answer
                    file.truncate(file.write(b"%d %d %d\n" % (self.count, self.passed, self.broken)))
            else:
                self._bet(*answers)
        except (OSError, OutputError) as error:
            self._file, said = None, f"cannot store the counts for the promise of {self.recipe}: {error}"
        if not self.broken:
            return said
        least, found = f"{self.promise.right * 100:.1f} %", f"{self.passed:,} of {self.count:,}"
        return (
            f"{self.recipe} promises that at least {least} of answers pass, but {found} do. "
            + "From now on, each prompt gets one answer. " * bool(self.instead)
            + "Choose again, with new prompts: redraft diagnose FILE --choose WAY"
        )

    def _bet(self, *answers: bool) -> None:
        for passed in () if self.broken else answers:
            self.count, self.passed = self.count + 1, self.passed + passed
            failed = self.count - self.passed
            gain = 1 / (1 - self.promise.right) - 1 if self.promise.right < 1 else math.inf
            wealth = (self.passed * math.log1p(-bet) + failed * math.log1p(bet * gain) for bet in _BETS)
            self.broken = failed > 0 and max(wealth) - math.log(len(_BETS)) > -math.log(_ERROR)
