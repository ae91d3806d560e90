"""`redraft cluster`: what runs on a Ray cluster."""

from __future__ import annotations

from typing import Annotated

import typer

from redraft.cli.verb import group

_HEADS = ("model", "server", "replicas", "streams", "queue", "tokens/s", "restarts")


def status(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="HOST:PORT of the head.")] = "auto",
) -> None:
    """Show the models that `redraft serve --ray` has on a cluster.

    Under each model are its replicas. Streams are replies that are written, and the queue has those that wait
    for a replica. Restarts are replicas that died under a reply.
    """
    from redraft.serve.cluster.connect import connected

    with connected(address) as ray:
        from redraft.serve.cluster.status import models_of

        found = models_of(ray)
    if not found:
        typer.echo("No models yet. Serve one: redraft serve --ray auto --model default", err=True)
        return
    rows = [_HEADS]
    for each in found:
        states = ", ".join(f"{count} {state.lower()}" for state, count in each.replicas.items())
        counts = (f"{each.streams}", f"{each.queue}", f"{each.tokens:.0f}", f"{each.restarts}")
        rows.append((each.model, each.server, states or "none", *counts))
        rows += [
            (f"  {one.name}", "", "", f"{one.streams}", "", f"{one.tokens:.0f}", "") for one in each.used
        ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        typer.echo("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


app = group("See what runs on a Ray cluster.", {"status": status})
