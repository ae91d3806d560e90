"""`redraft.diagnose`: tell from chains what revising did, and whether it pays."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from redraft.chain import Chain
from redraft.checks.base import Check
from redraft.checks.parse import parse_checks
from redraft.errors import UsageError
from redraft.evaluation.diagnosis import equal_tokens
from redraft.evaluation.diagnosis.equal_tokens import Curves, curves_in, revised_in
from redraft.evaluation.diagnosis.figures import Figures
from redraft.evaluation.diagnosis.strategies import Strategy
from redraft.evaluation.diagnosis.text import as_json, as_text
from redraft.evaluation.diagnosis.truth import chains_in, known, with_checks, with_task


class Diagnosis(Figures):
    """What revising did. As a text, it is the table of `redraft diagnose`."""

    def __str__(self) -> str:
        """Return the table of `redraft diagnose`."""
        return "\n".join(as_text(self))


def diagnose(
    chains: str | Path | Iterable[Chain],
    *,
    task: str | None = None,
    records: str | Path | None = None,
    score: Iterable[str | Check | Callable[..., Any]] = (),
    run_code: bool = False,
) -> Diagnosis:
    """Tell from chains what revising did, and whether it pays.

    `score` or the task decides which answers are right, if one is given; else what `redraft eval` wrote to
    the chains; else the checks that guided revising, and then a gain is nearly automatic.

    Args:
        chains: Chains, or a file of them.
        task: The name of a task that says which answers are right, as for `redraft eval`.
        records: The task's file, which the chains answer.
        score: Checks that say which answers are right.
        run_code: Let humaneval and mbpp run the model's programs, in a sandbox.

    Raises:
        UsageError: `task` or `records` is wrong, or lacks the other one, or is given with `score`.
        RecordError: Nothing says which answers are right, or a file cannot be read.
        CheckError: A check crashed.
    """
    given = chains_in([Path(chains)]) if isinstance(chains, str | Path) else chains
    checks = parse_checks(score)
    if (task is None) != (records is None) or (task and checks):
        raise UsageError(
            "a task comes with its records, and without other checks.",
            hint="Give task and records, such as gsm8k and test.jsonl; or score, such as words<=50.",
        )
    if task is not None and records is not None:
        given = with_task(given, task, Path(records), run_code=run_code)
    elif checks:
        given = with_checks(given, checks)
    return Diagnosis(known(given))


class Findings(NamedTuple):
    """A diagnosis of chains; and if they came as a folder of runs, a comparison of their strategies."""

    diagnosis: Diagnosis
    curves: Curves | None = None

    @classmethod
    def read(cls, files: Sequence[Path], strategies: Collection[Strategy], truth: Mapping[str, Any]) -> Self:
        """Diagnose files of chains. In a folder of runs, diagnose those that revise, and compare all.

        Args:
            files: Files of chains, or one folder of runs.
            strategies: Those to compare; empty for all.
            truth: All keyword arguments of `diagnose`.
        """
        if (truth["task"] is None) != (truth["records"] is None):
            raise UsageError("--task and --records go together.", hint="--task gsm8k --records test.jsonl")
        folder = next(filter(Path.is_dir, files), None)
        if folder is None:
            return cls(diagnose(chains_in(files), **truth))
        if named := [name for name in ("task", "score") if truth[name]]:
            raise UsageError(
                f"--{named[0]} was given with the runs in {folder}, whose task says what is right.",
                hint="Leave it out.",
            )
        if len(files) > 1:
            raise UsageError(f"{folder} is a folder, and other files were given too.", hint="Give it alone.")
        found = diagnose(chains_in(revised_in(folder, strategies)), **truth)
        return cls(found, curves_in(folder, strategies))

    def __str__(self) -> str:
        """Return the tables of `redraft diagnose`."""
        lines = [*as_text(self.diagnosis, compared=bool(self.curves))]
        return "\n".join([*lines, "", *equal_tokens.as_text(self.curves)] if self.curves else lines)

    def record(self) -> dict[str, Any]:
        """Return everything for JSON."""
        values = as_json(self.diagnosis, compared=bool(self.curves))
        return values | ({"equal_tokens": equal_tokens.as_json(self.curves)} if self.curves else {})
