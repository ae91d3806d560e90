"""`redraft run`: run the stages of a recipe, from data to report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from redraft.cli.shell import argument, flag, switch, tell, write


def run(
    recipe: Annotated[str, argument("RECIPE", "A YAML file, or selfee, alpaca, vicuna, stablevicuna, self.")],
    out: Annotated[
        Path | None, flag("DIR", "The folder of the run.  [the recipe's name]", "--out", "-o")
    ] = None,
    small: Annotated[bool, switch("Scale each stage down, to try the run on 2 cores.", "--small")] = False,
    until: Annotated[str, flag("STAGE", "Stop after this stage.")] = "",
    values: Annotated[
        list[str] | None, flag("NAME=VALUE", "Change a value of the recipe. Can be repeated.", "--set")
    ] = None,
    dry_run: Annotated[
        bool, switch("Only print the plan, with hours, sizes and costs.", "--dry-run")
    ] = False,
) -> None:
    """Run the stages of a recipe, from data to report.

    Each stage is done once. To resume a stopped run, type the same command again: a stage is done again only
    if its options or the content of its inputs have changed.
    """
    from redraft.errors import UsageError
    from redraft.train.systems.recipe import read_system
    from redraft.train.systems.run import Run

    given = {}
    for each in values or ():
        name, equals, value = each.partition("=")
        if not equals:
            raise UsageError(f"--set {each} has no value.", hint="--set NAME=VALUE")
        given[name] = value
    system = read_system(recipe, small=small, values=given)
    folder = out or Path(f"{system.name}{'-small' if small else ''}")
    made = Run(system, folder, until, tell)
    if dry_run:
        write("\n".join(made.plan().lines()))
        made.plan().check(system, folder)
        return
    made.run()
