"""`redraft model`: fetch, list and locate models."""

from __future__ import annotations

from typing import Annotated

import typer

from redraft.cli.shell import argument
from redraft.cli.verb import group
from redraft.jobs.counting import size_in_words

OF_DEFAULT = "small sums, products, dates and times; short texts and JSON with checks (docs/self.md)"


def get(
    ref: Annotated[str, argument("REF", "Model: default, small, org/name, org/name:Q4_K_M …")] = "default",
) -> None:
    """Fetch a model, unless it is here, and print its path.

    Standard error first shows the model's size and licence, and a warning if memory is short. The checksum is
    checked. A damaged default model is fetched again.
    """
    from redraft.engines.llamacpp import default_model
    from redraft.engines.load import local_file, parse_reference
    from redraft.errors import UsageError

    named = parse_reference(ref)
    if named.kind not in ("default", "hub") or named.adapters:
        raise UsageError(
            f"{ref} is not a model that redraft fetches.",
            hint="redraft fetches default, small, medium and large, and GGUF files of the hub: org/name, "
            "org/name:Q4_K_M or org/name/file.gguf",
        )
    typer.echo(default_model.fetch_default() if named.kind == "default" else local_file(named))


def list_() -> None:
    """List the models on this machine, and recommended ones.

    Each line has the reference for --model, the size, and the path. Standard error lists models to fetch,
    with memory, uses, and the IFEval scores that publishers report.
    """
    from redraft.engines.llamacpp.default_model import DEFAULT
    from redraft.engines.names import RECOMMENDED
    from redraft.jobs import hub
    from redraft.jobs.machine import free_memory

    latest = {f"{each.repo}/{each.name}": each for each in hub.cached()}
    rows = [(ref, each.size, each.path) for ref, each in latest.items()]
    if DEFAULT.path.exists():
        rows.insert(0, ("default", DEFAULT.path.stat().st_size, DEFAULT.path))
    if not rows:
        typer.echo("There are no models here. Fetch the default one: redraft model get default", err=True)
    width = max((len(ref) for ref, _, _ in rows), default=0)
    for ref, size, path in rows:
        typer.echo(f"{ref:{width}}  {size_in_words(size):>8}  {path}")
    free = free_memory()
    known = f"{size_in_words(free)} of memory are free here; the IFEval scores are the publishers' own"
    typer.echo(f"default: {OF_DEFAULT}.", err=True)
    typer.echo(f"To use one of these, give its name or reference to `--model` ({known}):", err=True)
    for model in RECOMMENDED:
        wants = f"needs {size_in_words(model.memory)}" + (" (too much)" if model.memory > free else "")
        facts = f"{size_in_words(model.size)}, {wants}, {model.licence}, IFEval {model.ifeval} %"
        typer.echo(f"  {model.name:8}{model.ref}\n          {facts}: {model.good_for}", err=True)


app = group("Fetch, list and locate models.", get, list_)
