"""`redraft data merge`: mix files by a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from redraft.cli.data import common
from redraft.cli.data.common import STDIO, Flags
from redraft.cli.shell import tell

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redraft.collect.merge import Taken


def merge(
    recipe: Annotated[
        str,
        typer.Argument(metavar="RECIPE", help="A YAML file, or selfee, alpaca, vicuna, stablevicuna."),
    ],
    folder: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="DIR",
            help="Folder of the parts' files.  [the recipe's; this one for a shipped recipe]",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Override the recipe's seed.", show_default=False)
    ] = None,
    skip_missing: Annotated[bool, typer.Option("--skip-missing", help="Leave missing files out.")] = False,
    *,
    flags: Flags,
) -> None:
    """Mix files of chains by a recipe.

    Records of each part are drawn with the seed, then all are shuffled. The same recipe, seed and files give
    the same output. OUT.run.json records recipe, seed, counts, licences and checksums.
    """
    from dataclasses import replace

    from redraft.collect.merge import merge as mix
    from redraft.collect.merge import sources_in
    from redraft.collect.recipe import read_recipe
    from redraft.errors import UsageError
    from redraft.formats.documents import shipped_recipes
    from redraft.jobs.provenance import Provenance
    from redraft.licences import clash, remark

    shipped = shipped_recipes("data")
    path = Path(recipe) if Path(recipe).is_file() else shipped.get(recipe)
    if path is None:
        hint = f"Give a YAML file, or one of: {', '.join(shipped)}"
        raise UsageError(f"there is no recipe {recipe!r}.", hint=hint)
    is_shipped = path in shipped.values()
    plan = read_recipe(path)
    plan = plan if seed is None else replace(plan, seed=seed)
    parts = folder or (Path() if is_shipped else path.parent)
    files = [file for part in plan.parts if (file := parts / part.file).is_file()]
    name = path.name if is_shipped else None
    taken: list[Taken] = []
    config = {"seed": plan.seed, "about": plan.about, "strict": flags.strict}
    with common.writing(
        Provenance("data merge", config, path, name),
        flags,
        reads=files,
        beside=[path, *files],
        about=lambda: {"parts": [_part(each, parts) for each in taken]},
    ) as output:
        taken = mix(
            plan,
            parts,
            output.sink,
            dropped=output.gone,
            scratch=None if flags.out == STDIO else flags.out.parent,
            skip_missing=skip_missing,
            workers=common.processes(flags.workers),
            strict=flags.strict,
            read=output.progress.advance,
        )
        output.kept = sum(each.count for each in taken)
    if not flags.quiet:
        _say(taken, output.gone.lines())
    for each in taken:
        if own := _own_licences(each):
            tell(
                f"{each.part.name}: its records keep their own licence, {', '.join(own)}: the recipe's, "
                f"{each.part.licence}, is for records without one."
            )
    if clash(sources := sources_in(taken)):
        tell(remark(sources))  # a quiet run says it too


def _part(taken: Taken, folder: Path) -> dict[str, object]:
    from redraft.jobs.provenance import fingerprint

    part = taken.part
    return {
        "name": part.name,
        "file": None if taken.missing or part.identity else fingerprint([folder / part.file]),
        "identity": part.identity and part.identity._asdict(),
        "asked": {
            "count": "all" if part.count is None else part.count,
            "per": part.per,
            "weight": part.weight,
        },
        "found": taken.found,
        "taken": taken.count,
        "short": taken.short,
        "licences": dict(sorted(taken.licences.items())),
    }


def _say(taken: Sequence[Taken], dropped: Sequence[str]) -> None:
    """Print counts, shortages, possible repeats, and licences that differ without a clash."""
    from collections import Counter

    from redraft.collect.merge import sources_in
    from redraft.licences import clash, remark

    width = max(len(each.part.name) for each in taken)
    lines = [f"{each.part.name:{width}}  {each.count:>9,}  {_remark(each)}" for each in taken]
    total = sum(each.count for each in taken)
    tell(f"{total:,} record{'' if total == 1 else 's'}", "\n".join([*lines, *dropped]))
    for file, parts in Counter(Path(each.part.file) for each in taken if each.count).items():
        if parts > 1:
            tell(
                f"{file} is in {parts} parts that draw independently: the mix may repeat a record.",
                "redraft data dedupe drops repeats.",
            )
    if not clash(sources := sources_in(taken)) and (text := remark(sources)):
        tell(text)


def _own_licences(taken: Taken) -> list[str]:
    """Return the licences of taken records that hold in place of the one that the recipe gives their part."""
    from redraft.licences import UNKNOWN, Source, ids_of

    def ids(licence: str) -> set[str]:
        return set(ids_of([Source("data", "", licence)]))

    given = taken.part.licence
    return [each for each in sorted(taken.licences) if given != UNKNOWN and ids(each) != ids(given)]


def _remark(taken: Taken) -> str:
    licences = ", ".join(sorted(taken.licences)) or taken.part.licence
    if taken.missing:
        wanted = "all" if taken.part.count is None else f"{taken.part.count:,}"
        each = f" of each {taken.part.per}" if taken.part.per else ""
        return f"missing: {wanted}{each} wanted of {taken.part.file} ({licences})"
    if not taken.found:
        return f"no record in {taken.part.file}"
    return f"{licences}; {taken.short:,} short" if taken.short else licences
