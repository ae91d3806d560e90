"""The flags of a long run: how many requests at once, through batches, up to which limits.

A verb takes `run: RunFlags`, and `with_options` shows each of its fields as a flag.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from redraft.cli.batching import IN_BATCHES, BatchFlag, Batching, PauseOption
from redraft.errors import UsageError

if TYPE_CHECKING:
    from redraft.jobs.limits import Limits

PARALLEL = 4
"""Default number of chains at once. More is faster on a GPU or a server."""

_LIMITS = "Limits of this run"


def _limit(metavar: str, text: str) -> Any:
    return typer.Option(metavar=metavar, help=text, rich_help_panel=_LIMITS, show_default=False)


def _journal(text: str) -> Any:
    return typer.Option("--journal", metavar="FILE", help=text, show_default=False)


Parallel = Annotated[
    int | None,
    typer.Option(
        "--parallel", "-j", metavar="N", help=f"How many to make at once.  [{PARALLEL}]", show_default=False
    ),
]
LimitUsd = Annotated[float | None, _limit("USD", "money; needs a price")]
LimitTokens = Annotated[int | None, _limit("N", "generated tokens")]
LimitSeconds = Annotated[float | None, _limit("S", "wall-clock time")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no summary.")]
First = Annotated[
    int | None,
    typer.Option("--limit", metavar="N", min=1, help="Only the first N records.", show_default=False),
]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Only what failed before.")]
Journal = Annotated[Path | None, _journal("Store replies: none is paid for twice.")]
OwnJournal = Annotated[Path | None, _journal("Where replies are stored.  [FILE.journal.db]")]


@dataclass(frozen=True)
class RunFlags:
    """What a user said of a run. None stands for the default."""

    parallel: Parallel = None
    quiet: Quiet = False
    batch: BatchFlag = False
    pause: PauseOption = None
    limit_usd: LimitUsd = None
    limit_tokens: LimitTokens = None
    limit_seconds: LimitSeconds = None

    @property
    def at_once(self) -> int:
        """How many chains to make at once: as given, many in batches, or as the config file says."""
        return parallel_of(self.parallel, batch=self.batch)

    @property
    def silent(self) -> bool:
        """Whether progress and summary are hidden, by the flag or by the config file."""
        from redraft.config import load_config

        return self.quiet or bool(load_config().defaults.get("quiet", False))

    @property
    def limits(self) -> Limits:
        """The limits of the run."""
        from redraft.jobs.limits import Limits

        return Limits(self.limit_usd, self.limit_tokens, self.limit_seconds)

    def batching(self, out: Path) -> Batching:
        """Return how a run with this output uses batches."""
        return Batching(out, self.batch, self.pause)


def parallel_of(given: int | None, *, batch: bool = False) -> int:
    """Return how many chains to make at once: as given, many in batches, or as the config file says."""
    from redraft.config import load_config

    if given is not None:
        return given
    found: int = IN_BATCHES if batch else load_config().defaults.get("parallel", PARALLEL)
    return found


def own_journal(given: Path | None, out: Path) -> Path:
    """Return the journal of a run that always has one."""
    return given or out.with_name(f"{out.name}.journal.db")


def check_out(out: Path, example: str) -> None:
    """Refuse standard output, because a stopped run resumes from its file.

    Raises:
        UsageError: The output is '-'.
    """
    if str(out) == "-":
        hint = f"A stopped run resumes from it. Write {example}"
        raise UsageError("the output has to be a file, not '-'.", hint=hint)
