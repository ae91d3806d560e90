"""`--ray`: a verb makes all shares of its job on Ray, merges them, and goes on as if one machine had."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from redraft.cli.shell import flag, only_ours, tell
from redraft.errors import UsageError

_NOT = ("shard", "journal", "cache", "batch", "estimate")
"""Options that are for one process."""


@dataclass(frozen=True)
class RayFlags:
    """Where shares are made, and how many at once."""

    ray: Annotated[
        str | None,
        flag("[ADDRESS]", "Make all shares on Ray: HOST:PORT, auto, or none for this machine.", "--ray"),
    ] = None
    actors: Annotated[
        str | None,
        flag("LEAST-MOST", "How many shares at once with --ray.  [1 to what fits]", "--actors"),
    ] = None

    def make(
        self, function: str, inputs: Sequence[Any], out: Path, options: Mapping[str, Any], *, quiet: bool
    ) -> None:
        """Make all shares and merge them, if `--ray` was given. Return if all items are done.

        Args:
            function: Module and name of the coroutine of Python that does the verb's work.
            inputs: Its arguments before the output. Each path, here and in the options, is of a file to read.
            out: The output.
            options: Its keyword arguments.
            quiet: Show no progress and no summary.
        """
        if self.ray is None:
            if self.actors:
                raise UsageError("--actors was given without --ray.", hint="Add --ray.")
            return
        if wrong := next((name for name in _NOT if options.get(name)), ""):
            raise UsageError(f"--ray and --{wrong} were given.", hint=f"Leave --{wrong} out.")
        from redraft.serve.cluster.actor import Work
        from redraft.serve.cluster.bounds import Bounds
        from redraft.serve.cluster.shares import make_shares

        work = Work.of(function, [*inputs, str(out)], options)
        pool = Bounds.read(self.actors, "--actors") if self.actors is not None else None
        with only_ours():
            result = make_shares(work, out, address=self.ray, pool=pool, quiet=quiet, say=tell)
        if result.failed or result.limit:
            tell(str(result))
            raise typer.Exit(result.status)
        if not quiet:
            typer.echo(str(result))
