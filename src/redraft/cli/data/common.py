"""The flags that the commands of `redraft data` share."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_type_hints

import typer

from redraft.cli.parameters import WithOptions

if TYPE_CHECKING:
    from redraft.collect.output import DataOptions

Source = Annotated[
    Path,
    typer.Argument(
        metavar="FILE", help="Records of any known shape, as JSON lines or a JSON array; '-' is stdin."
    ),
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", "-j", metavar="N", min=1, help="Processes.  [all cores]", show_default=False),
]
Strict = Annotated[bool, typer.Option("--strict", help="Stop at a record that cannot be read.")]
Force = Annotated[bool, typer.Option("--force", help="Replace the output if it exists.")]


@dataclass(frozen=True)
class Flags:
    """The options of every command that writes chains."""

    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="Where the chains go; '-' is stdout.")
    ] = Path("-")
    dropped: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Keep dropped records, with the reason.", show_default=False),
    ] = None
    workers: Workers = None
    strict: Strict = False
    force: Force = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, and no counts at the end.")] = (
        False
    )

    @property
    def options(self) -> DataOptions:
        """The options of the functions that do the work, other than `out`."""
        return cast("DataOptions", {name: value for name, value in vars(self).items() if name != "out"})


def takes_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `Flags`, which it receives as `flags`."""
    hints = get_type_hints(Flags, include_extras=True)
    options = [p.replace(annotation=hints[p.name]) for p in inspect.signature(Flags).parameters.values()]
    return WithOptions(command, lambda: options, lambda given: Flags(**given))
