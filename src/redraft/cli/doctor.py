"""`redraft doctor`: show what is installed, what works, and what to type. It changes nothing.

It prints plain lines instead of a table, so that long paths and commands stay whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from redraft.cli.shell import flag, write
from redraft.errors import UsageError

if TYPE_CHECKING:
    from redraft.engines.speed import Speed

_MARKS = {True: "ok", None: "-", False: "no"}


def doctor(
    bench: Annotated[bool, typer.Option("--bench", help="Measure the engines, in a minute.")] = False,
    model: Annotated[
        str | None,
        flag("REF", "Measure with this model.  [default]", "--model", "-m"),
    ] = None,
) -> None:
    """Show what is installed, what works, and what to type.

    Looks at this machine only: no server is asked, and no key is shown. With --bench, it prints the tokens
    that each engine writes in a second, with one stream and with eight, and which engine to take.
    """
    from redraft.engines.installation import findings, first_command

    if model and not bench:
        raise UsageError("--model is for --bench.", hint=f"redraft doctor --bench --model {model}")
    if bench:
        _measure(model or "default")
        return
    for finding in findings():
        write(f"{_MARKS[finding.well]:<3} {finding.what:<14} {finding.found}")
        if finding.type_next:
            write(f"{'':<18} > {finding.type_next}")
    write("\nStart with: " + first_command())


def _measure(reference: str) -> None:
    """Print each speed as it is measured, and for each number of streams the fastest engine."""
    import asyncio

    from redraft.engines.speed import speeds

    async def measured() -> list[Speed]:
        found = []
        async for each in speeds(reference):
            write(f"{each.engine:<10} {each.streams} at once {each.rate:>8.0f} tokens/s")
            found.append(each)
        return found

    found = asyncio.run(measured())
    for streams in sorted({each.streams for each in found}):
        first, *rest = sorted((e for e in found if e.streams == streams), key=lambda each: -each.rate)
        share = (
            f"{first.rate / (rest[0].rate or 1):.1f} times {rest[0].engine}" if rest else "the only one here"
        )
        write(f"best with {streams}: --engine {first.engine}, {share}")
