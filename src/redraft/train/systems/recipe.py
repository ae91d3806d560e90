"""Read recipes for `redraft run`. A recipe has named stages, and each stage is a verb with options.

`{NAME}` in an option is replaced by a value, or by the path of a user's file or a stage's output. A stage
runs after the stages whose outputs it reads. Write `{{` for a brace. `small` lists what --small changes.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from redraft.chain.documents import recipe_of, shipped_recipes, text_of_settings, yaml_of
from redraft.errors import UsageError, shown
from redraft.jobs.provenance import paths_in
from redraft.jobs.stores import url_of
from redraft.options import OptionModel, option
from redraft.train.systems.verbs import check_options, filled, find_verb, names_in

FOLDER = "systems"  # the folder of shipped recipes


class Needs(OptionModel):
    """The resources of a stage, as estimated by the recipe."""

    hours: float = option("wall-clock time that the stage needs, in hours", default=0.0, ge=0)
    gb: float = option("disk space that the stage needs, in units of 10^9 bytes", default=0.0, ge=0)
    prompts: float = option("tokens in prompts to the stage's model, in millions", default=0.0, ge=0)
    new: float = option("tokens that the stage's model generates, in millions", default=0.0, ge=0)


class StageKeys(OptionModel):
    """The keys of a stage in a recipe."""

    verb: str = option("a verb of redraft, such as generate chains", default="")
    out: str = option("the stage's output: a file or folder in the run's folder", default="")
    options: dict[str, Any] | None = option("the options of the verb", what="names and values")
    command: str | None = option("a command to run in place of the verb, such as a SkyPilot or Slurm command")
    needs: dict[str, Any] | None = option("what the stage needs", what="numbers: hours, gb, prompts, new")
    small: dict[str, Any] | None = option("keys to use instead when --small is given", what="keys of a stage")


class FileKeys(OptionModel):
    """The keys of a recipe's entry for a file that the user supplies."""

    path: str = option("the file's path, relative to the recipe's folder", default="")
    get: str = option("where to get the file, in words", default="")
    licence: str = option("the file's licence", default="")


class SystemKeys(OptionModel):
    """The keys of a recipe for `redraft run`."""

    values: dict[str, Any] | None = option("values for `{NAME}`; --set changes them", what="names and values")
    files: dict[str, Any] | None = option("the files that you supply, by name", what="names and paths")
    stages: dict[str, Any] | None = option("the stages by name", what="names and stages")
    small: dict[str, Any] | None = option("values to use instead with --small", what="names and values")


@dataclass(frozen=True)
class Stage:
    """A stage of a recipe: a verb with options, or a shell command."""

    name: str
    verb: str
    out: str  # the name of its output in the folder of the run
    options: Mapping[str, Any]  # with values filled in, but not yet the `{NAME}` of files and stages
    command: str  # a shell command to run in place of the verb, or empty
    needs: Needs
    reads: tuple[str, ...]  # the names of files and stages that it reads

    @property
    def made(self) -> str:
        """The stage's verb and inputs as text, such as `train sft from tasks`."""
        read = f" from {', '.join(self.reads)}" if self.reads else ""
        return f"{'a command' if self.command else self.verb}{read}"

    @property
    def paths(self) -> Iterator[Path]:
        """The local files and folders that are named in the stage's options and command."""
        yield from paths_in({name: each for name, each in self.options.items() if name != "cache_dir"})
        with suppress(ValueError):  # quotes that only the shell can read
            yield from paths_in(shlex.split(self.command)[1:])

    def check(self) -> None:
        """Raise `UsageError` if an option of the stage's verb is unknown or missing, or has a wrong value."""
        if self.command:
            return
        try:
            check_options(find_verb(self.verb), self.options)
        except UsageError as error:
            raise UsageError(f"stage {self.name} ({self.verb}): {error.message}", hint=error.hint) from None


@dataclass(frozen=True)
class System:
    """A recipe in which `{NAME}` has been replaced by values."""

    name: str  # the name of the recipe
    stages: Mapping[str, Stage]  # each stage after those that it reads
    files: Mapping[str, FileKeys] = field(default_factory=dict)  # the user's files by name
    small: bool = False
    about: str = ""

    def upstream(self, name: str) -> set[str]:
        """Return the names of a stage and of all stages on which the stage depends."""
        found = {name}
        for each in self.stages[name].reads:
            found |= self.upstream(each) if each in self.stages else set()
        return found

    def stage(self, name: str) -> Stage:
        """Return the stage called `name`. Raise `UsageError` if no stage has this name."""
        if found := self.stages.get(name):
            return found
        raise UsageError(f"there is no stage {name!r:.80}.", hint=f"Stages: {', '.join(self.stages)}")


def read_system(recipe: str, *, small: bool = False, values: Mapping[str, str] | None = None) -> System:
    """Read a recipe by name or path.

    Args:
        small: Apply the changes in the recipe's key `small`.
        values: New values, by name, in place of the recipe's values.

    Raises:
        UsageError: The recipe has a fault.
    """
    path, document = recipe_of(recipe, FOLDER)
    about = yaml_of(text_of_settings(Path(path)), path).get("about", "")
    keys = SystemKeys.read_file(document, where=f"{path}: ")
    known = (keys.values or {}) | (keys.small or {} if small else {})
    for name, value in (values or {}).items():
        if name not in known:
            hint = f"Its values: {', '.join(known) or 'none'}"
            raise UsageError(f"{path} defines no value named {name!r:.80}.", hint=hint)
        known[name] = value
    base, shipped = Path(path).parent, recipe in shipped_recipes(FOLDER)
    if not keys.stages:
        raise UsageError(f"{path} has no stages.", hint="stages: {NAME: {verb: …, out: …, options: {…}}}")
    try:
        files = {name: _file(base, name, each, shipped=shipped) for name, each in (keys.files or {}).items()}
        stages = {name: _stage(name, each, known, small=small) for name, each in keys.stages.items()}
        stages = {name: each for name, each in stages.items() if each.verb or each.command}
        _check(stages, files, known)
        ordered = _ordered(stages)
    except UsageError as error:
        raise UsageError(f"{path}: {error.message}", hint=error.hint) from None
    return System(Path(path).stem, ordered, files, small, str(about).strip())


def _file(base: Path, name: str, given: Any, *, shipped: bool) -> FileKeys:
    keys = {"path": given} if isinstance(given, str) else given
    if not isinstance(keys, dict) or not keys.get("path"):
        raise UsageError(f"files.{name} is {shown(given)}.", hint="It should be a path.")
    read = FileKeys.read_file(keys, where="", table=f"files.{name}.")
    path = Path(os.path.normpath(base / Path(read.path).expanduser()))
    if url_of(read.path) is None and (path.exists() or not shipped):
        read = read.model_copy(update={"path": str(path)})
    return read


def _stage(name: str, given: Any, values: Mapping[str, Any], *, small: bool) -> Stage:
    if not isinstance(given, dict):
        raise UsageError(f"stage {name} is {shown(given)}.", hint="It should be keys and values.")
    keys = StageKeys.read_file(given, where="", table=f"{name}.")
    if small:
        other = StageKeys.read_file(keys.small or {}, where="", table=f"{name}.small.").explicit
        if "verb" not in other:
            other["options"] = {**(keys.options or {}), **other.get("options", {})}
        keys = keys.model_copy(update=other)
    options = {option: each for option, each in (keys.options or {}).items() if each is not None}
    needs = Needs.read(keys.needs or {}, table=f"{name}.needs.")
    options, command = filled(options, values), filled(keys.command or "", values)
    reads = tuple(dict.fromkeys([*names_in(options), *(each for each in names_in(command) if each != "out")]))
    return Stage(name, keys.verb, keys.out or name, options, command, needs, reads)


def _check(stages: Mapping[str, Stage], files: Mapping[str, FileKeys], values: Mapping[str, Any]) -> None:
    outputs: dict[str, str] = {}
    for name, stage in stages.items():
        if name in files or name in values:
            raise UsageError(f"stage {name} has the same name as a file or value.", hint="Rename the stage.")
        if Path(stage.out).is_absolute() or ".." in Path(stage.out).parts or stage.out.startswith("."):
            rule = "must be a relative path inside the run's folder"
            raise UsageError(f"stage {name}: output {stage.out!r:.120} {rule}.")
        if (other := outputs.setdefault(stage.out, name)) != name:
            raise UsageError(f"stages {other} and {name} both write {stage.out}.", hint="Change one 'out'.")
        for each in stage.reads:
            if each not in stages and each not in files:
                hint = f"Stages: {', '.join(stages)}. Files: {', '.join(files) or 'none'}. "
                hint += "Write '{{' for a brace."
                raise UsageError(f"stage {name} reads {{{each}}}, which is not a stage or file.", hint=hint)
        if not stage.command:
            find_verb(stage.verb)


def _ordered(stages: Mapping[str, Stage]) -> dict[str, Stage]:
    graph = {name: [each for each in stage.reads if each in stages] for name, stage in stages.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle = " → ".join(reversed(error.args[1]))
        raise UsageError(f"the stages read each other in a circle: {circle}.") from None
    ordered: dict[str, Stage] = {}
    while left := [name for name in graph if name not in ordered]:
        ready = next(name for name in left if ordered.keys() >= set(graph[name]))
        ordered[ready] = stages[ready]
    return ordered
