"""Runs that ask servers in batches: which record and which journal they use, and what does not fit."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, AsyncExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redraft.errors import UsageError
from redraft.jobs.journal import Journal
from redraft.revision.settings import Settings

if TYPE_CHECKING:
    from redraft.engines.remote.batch import Batches


@dataclass(frozen=True)
class Batching:
    """Whether and how a run asks servers in batches.

    Attributes:
        out: The output of the run.
        wanted: `--batch` was given.
        pause: Longest pause between two looks at a batch, in seconds; None for the default.
        tell: Called with each message for the user.
    """

    out: Path
    wanted: bool = False
    pause: float | None = None
    tell: Callable[[str], None] = print

    @property
    def file(self) -> Path:
        """Where the batches of the run are recorded."""
        return self.out.with_name(self.out.name + ".batches.jsonl")

    def journal(self, given: Path | None, cache: Path | None) -> Path | None:
        """Return the journal. Batches need one; a run that goes on without batches uses it too."""
        own = self.out.with_name(self.out.name + ".journal.db")
        needed = self.wanted or own.exists() or self.file.exists()
        return given or (own if needed and not cache else None)

    def check(self, settings: Settings) -> None:
        """Raise what does not go together with batches.

        Raises:
            UsageError: No model is on a server, or a setting does not fit.
        """
        if self.pause is not None and not self.pause > 0:
            raise UsageError(f"pause is {self.pause}.", hint="Give seconds, above zero.")
        if not self.wanted:
            return
        if not any("://" in reference for reference in settings.references().values()):
            raise UsageError(
                "--batch is for servers, and no model is on one.",
                hint="Leave it out, or name a server that has batches: --model https://host/v1#model",
            )
        if settings.get("budget_seconds") is not None:
            raise UsageError(
                "--batch and --budget-seconds were given, and a reply may take a day.",
                hint="Limit the waiting with --limit-seconds, or each chain with --budget-tokens.",
            )

    def opened(
        self, stack: AsyncExitStack, journal: Journal | None, limit: Callable[[], str]
    ) -> Batches | None:
        """Open the batches of the run, which `stack` closes. None if there are none.

        Args:
            stack: As above.
            journal: The open journal; there is one if batches are wanted.
            limit: Returns which limit ends the waiting for replies, in words, or an empty text.

        Raises:
            UsageError: Batches are under way, and `--batch` was not given.
            OutputError: The record of batches cannot be used.
        """
        if not self.wanted and not self.file.exists():
            return None
        from redraft.engines.remote.batch import PAUSE, Batches

        assert journal is not None  # noqa: S101  (`journal` above sees to it)
        found = Batches(
            self.file, journal, pause=PAUSE if self.pause is None else self.pause, limit=limit, tell=self.tell
        )
        if not self.wanted:
            self._check_none(found)
            return None
        return stack.enter_context(found)

    def _check_none(self, batches: Batches) -> None:
        """Raise if a batch is under way, because its requests would be sent and paid again."""
        left = batches.file.pending()
        batches.file.close()
        if left:
            raise UsageError(
                f"{left[0].batch or left[0].file} is under way for {self.out}, and --batch was not given.",
                hint=f"Add --batch to wait for it. To pay for its replies again, remove {self.file}",
            )


def under_way(batches: Batches | None) -> AbstractContextManager[Any]:
    """Count a chain as under way while it is made: a wave is sent when all of them wait."""
    return batches.chain() if batches else nullcontext()
