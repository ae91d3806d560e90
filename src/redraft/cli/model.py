"""`redraft model`: fetch, list, find and remove models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from redraft.cli.shell import group

if TYPE_CHECKING:
    from redraft.engines.load import ModelReference

Ref = Annotated[str, typer.Argument(metavar="REF", help="default, org/name, org/name:Q4_K_M …")]


def get(ref: Ref = "default") -> None:
    """Fetch a model, unless it is here, and print its path.

    The default model is checked against its checksum, and fetched again if it is damaged.
    """
    import sys

    from redraft import hub
    from redraft.engines.llamacpp import default_model

    named = _fetchable(ref)
    if named.kind == "default":
        path = default_model.fetch_default(show=sys.stderr.isatty())
    else:
        path = hub.fetch(named.target, named.selects)
    typer.echo(path)


def list_models() -> None:
    """List the models that are here.

    Each line has the reference for --model, the size, and the path.
    """
    from redraft import hub
    from redraft.engines.llamacpp.default_model import DEFAULT

    latest = {f"{each.repo}/{each.name}": each for each in hub.cached()}
    rows = [(ref, each.size, each.path) for ref, each in latest.items()]
    if DEFAULT.path.exists():
        rows.insert(0, ("default", DEFAULT.path.stat().st_size, DEFAULT.path))
    if not rows:
        typer.echo("No models yet. Fetch the small default one: redraft model get default", err=True)
    width = max((len(ref) for ref, _, _ in rows), default=0)
    for ref, size, path in rows:
        typer.echo(f"{ref:{width}}  {in_words(size):>8}  {path}")


def path(ref: Ref = "default") -> None:
    """Print the path of a model that is here. Nothing is fetched."""
    from redraft import hub
    from redraft.engines.llamacpp import default_model
    from redraft.errors import ModelError

    named = _fetchable(ref)
    default = named.kind == "default"
    found = default_model.cached_default() if default else hub.find(named.target, named.selects)
    if found is None:
        raise ModelError(f"the model {ref} is not here.", hint=f"redraft model get {ref}")
    typer.echo(found)


def remove(ref: Ref) -> None:
    """Remove a model from this machine.

    org/name removes all its GGUF files, org/name:Q4_K_M one. Other programs share the cache of the hub.
    """
    from redraft import hub
    from redraft.engines.llamacpp import default_model
    from redraft.errors import ModelError

    named = _fetchable(ref)
    default = named.kind == "default"
    freed = default_model.remove_default() if default else hub.remove(named.target, named.selects)
    if not freed:
        raise ModelError(f"the model {ref} is not here.", hint="redraft model list")
    typer.echo(f"Removed {ref}: {in_words(freed)}.", err=True)


def in_words(size: int) -> str:
    """Return a size in bytes with a decimal unit, such as 98 MB."""
    for unit, name in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= 0.9995 * unit:  # which three digits round up to 1
            return f"{size / unit:.3g} {name}"
    return f"{size} B"


def _fetchable(ref: str) -> ModelReference:
    from redraft.engines.load import parse_reference
    from redraft.errors import UsageError

    named = parse_reference(ref)
    if named.kind not in ("default", "hub") or named.adapters:
        raise UsageError(
            f"{ref} is not a model that redraft fetches.",
            hint="Those are: default, and GGUF files of the hub as org/name, org/name:Q4_K_M "
            "or org/name/file.gguf",
        )
    return named


app = group(
    "Fetch, list, find and remove models.", {"get": get, "list": list_models, "path": path, "remove": remove}
)
