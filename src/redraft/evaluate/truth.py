"""The truth about every answer of a chain: from `redraft eval`, from a task or checks, or its own checks.

Truth is kept in `meta["eval"]`, as `evaluate.tasks` writes it. An echo is never right, whatever a check makes
of it, because it answers nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from redraft.chain import Chain, Step
from redraft.errors import RecordError
from redraft.evaluate.tasks import KEY
from redraft.verify.base import Check, run_checks

OWN = "own checks"
"""The name of the task of chains whose own checks say what is right."""

_FEW = 5  # ids to name


@dataclass(frozen=True)
class Known:
    """A chain with the truth about each of its answers.

    Attributes:
        task: The name of the task, or `OWN`.
        results: What each scoring check found, for each answer: its name and whether it passed.
        loose: Whether each answer is right by IFEval's loose score; empty for other tasks.
        groups: The groups of the record.
    """

    chain: Chain
    task: str
    results: tuple[tuple[tuple[str, bool], ...], ...]
    loose: tuple[bool, ...] = ()
    groups: tuple[str, ...] = ()

    @cached_property
    def rights(self) -> tuple[bool, ...]:
        """Whether each answer is right."""
        return tuple(
            passed and not step.echo for passed, step in zip(self.passes, self.chain.steps, strict=True)
        )

    @cached_property
    def passes(self) -> tuple[bool, ...]:
        """Whether each answer passes all scoring checks, an echo too."""
        return tuple(bool(found) and all(passed for _, passed in found) for found in self.results)

    @property
    def first(self) -> bool:
        """Whether the first answer is right."""
        return self.rights[0]

    @property
    def best(self) -> bool:
        """Whether the best answer is right. Where there is none, it is not."""
        return self.chain.best is not None and self.rights[self.chain.best]

    def after(self, revisions: int) -> bool:
        """Return whether the answer after at most so many revisions is right."""
        return self.rights[min(revisions, len(self.rights) - 1)]

    @property
    def guided(self) -> set[str]:
        """The names of the checks that guided revising."""
        return {result.name for step in self.chain.steps for result in step.checks}

    @property
    def scored(self) -> set[str]:
        """The names of the checks that say what is right."""
        return {name for found in self.results for name, _ in found}


@dataclass(frozen=True)
class Material:
    """Chains with truth, and what was left out.

    Attributes:
        chains: The chains with truth.
        left_out: Ids of chains that do not count, by reason.
        again: Ids that several chains have: runs of one item.
    """

    chains: tuple[Known, ...]
    left_out: Mapping[str, tuple[str, ...]]
    again: tuple[str, ...] = ()


def known(chains: Iterable[Chain]) -> Material:
    """Find the truth about chains: in `meta["eval"]` if any of them has it, else their own checks.

    Of equal chains, one counts. Chains with the same id count as runs of one item.

    Raises:
        RecordError: No chain has truth.
    """
    unique = {chain.to_json(): chain for chain in chains}
    found = list(unique.values())
    read = _told if any(_about(chain) for chain in found) else _own
    good, left_out = [], dict[str, list[str]]()
    for chain in found:
        one = read(chain) if chain.steps else "no answer"
        if isinstance(one, Known):
            good.append(one)
        else:
            left_out.setdefault(one, []).append(chain.id)
    if not good:
        raise _nothing(found)
    again = Counter(one.chain.id for one in good)
    repeated = tuple(name for name, times in again.items() if times > 1)
    return Material(tuple(good), {why: tuple(ids) for why, ids in left_out.items()}, repeated)


def _nothing(chains: Sequence[Chain]) -> RecordError:
    if not any(chain.steps for chain in chains):
        return RecordError("there is no chain with an answer.", hint="Give a file that redraft answer made.")
    return RecordError(
        "nothing says which answers are right: the chains have no truth and no checks.",
        hint="Name the task with its file, --task gsm8k --records test.jsonl, or a check: "
        "--score 'words<=50'",
    )


def _about(chain: Chain) -> Mapping[str, Any]:
    about = chain.meta.get(KEY)
    return about if isinstance(about, Mapping) and about.get("steps") else {}


def _told(chain: Chain) -> Known | str:
    """Return the chain with the truth in its `meta`, or why there is none."""
    about = _about(chain)
    if not about:
        return "no truth"
    try:
        results = tuple(tuple((r["name"], bool(r["passed"])) for r in found) for found in about["steps"])
        loose = tuple(all(found) for found in about.get("loose") or ())
    except (KeyError, TypeError):
        return "its truth cannot be read"
    if len(results) != len(chain.steps) or len(loose) not in (0, len(results)):
        return "no truth about some of its answers"
    groups = tuple(map(str, about.get("groups") or ()))
    return Known(chain, str(about.get("task", "")), results, loose, groups)


def _own(chain: Chain) -> Known | str:
    """Return the chain with its own checks as truth, or why they cannot tell. A cut answer is wrong."""
    if not all(step.checks or step.echo for step in chain.steps):
        return "not checked" if not chain.steps[0].checks else "some answers were not checked"
    return Known(chain, OWN, tuple(map(_found, chain.steps)))


def _found(step: Step) -> tuple[tuple[str, bool], ...]:
    return tuple((result.name, result.passed and step.complete) for result in step.checks)


async def scored_by(chain: Chain, checks: Sequence[Check]) -> Chain:
    """Return a chain with the results of checks as its truth."""
    steps = [await run_checks(checks, step.answer, chain.prompt) for step in chain.steps]
    about = {"task": "checks", "steps": [[result.model_dump() for result in found] for found in steps]}
    return chain.model_copy(update={"meta": {**chain.meta, KEY: about}})
