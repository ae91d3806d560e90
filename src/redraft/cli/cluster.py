"""The flags for running models, or shares of a job, on a Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from redraft.cli.shell import flag, only_ours, setting, tell
from redraft.errors import UsageError

if TYPE_CHECKING:
    from redraft.serve.cluster.serving import Applications

_NOT = ("shard", "cache", "batch")  # options that work only in a single process


@dataclass(frozen=True)
class RayFlags:
    """The flags for dividing a job over a Ray cluster."""

    ray: Annotated[
        str | None,
        flag("[ADDRESS]", "Divide work over Ray at HOST:PORT or auto; without ADDRESS, start Ray.", "--ray"),
    ] = None
    actors: Annotated[
        str | None, flag("LEAST-MOST", "With --ray: parallel shares.  [1 to as many as fit]", "--actors")
    ] = None

    def make(self, function: str, inputs: Sequence[Any], out: Path, options: Mapping[str, Any]) -> None:
        """With `--ray`, run all shares on the cluster, and merge the outputs. Exit if an item is not done.

        `function` is the `module:name` of the coroutine function that is called with `inputs`, `out` and
        `options` for each share. Every path in `inputs` and `options` is a file to read.
        """
        if self.ray is None:
            if self.actors:
                raise UsageError("--actors was given without --ray.", hint="Add --ray.")
            return
        if wrong := next((name for name in _NOT if options.get(name)), ""):
            raise UsageError(f"--ray and --{wrong} cannot be combined.", hint=f"Leave --{wrong} out.")
        from redraft.serve.cluster.connect import Bounds
        from redraft.serve.cluster.shares import ClusterWork, make_shares

        work, quiet = ClusterWork.of(function, [*inputs, str(out)], options), bool(options.get("quiet"))
        pool = Bounds.read(self.actors, "--actors") if self.actors is not None else None
        with only_ours():
            result = make_shares(work, out, address=self.ray, pool=pool, quiet=quiet, say=tell)
        if result.failed or result.limit:
            tell(str(result))
            raise typer.Exit(result.status)
        if not quiet:
            typer.echo(str(result))


_nodes = partial(setting, rich_help_panel="Many machines")


@dataclass(frozen=True)
class NodeFlags:
    """The flags for running models on a Ray cluster."""

    ray: Annotated[
        str | None, _nodes("[ADDRESS]", "Run models on Ray at HOST:PORT or auto; without ADDRESS, start Ray.")
    ] = None
    replicas: Annotated[str, _nodes("LEAST-MOST", "Replicas of each model, such as 2 or 0-4.")] = "1"
    app: Annotated[str, _nodes("NAME", "The name of this server on the cluster.")] = "redraft"

    @contextmanager
    def entered(self) -> Iterator[Applications | None]:
        """Connect to the cluster, and yield `Applications` to open models. Without `--ray`, yield None."""
        if self.ray is None:
            if self != NodeFlags():
                raise UsageError("--replicas and --app need --ray.", hint="Add --ray.")
            yield None
            return
        from redraft.serve.cluster.connect import Bounds, connected

        replicas = Bounds.read(self.replicas, "--replicas", lowest=0)
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), connected(self.ray) as ray:
            from redraft.serve.cluster.serving import Applications

            yield Applications(ray, self.app, replicas, tell)
