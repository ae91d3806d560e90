"""Find and load plugins of redraft and other packages: engines, checks, rewards, formats, tasks, commands.

Packages declare plugins as entry points, as in redraft's `pyproject.toml`. The names are read from package
metadata, and a plugin is imported only when it is used. See docs/extending.md for an example.
"""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, fields, replace
from functools import cache, wraps
from itertools import takewhile
from pkgutil import resolve_name
from typing import Any, Literal, TypeVar

from redraft.errors import RedraftError, UsageError, crash_of

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

_NAME = r"[A-Za-z][\w-]*"  # a name that can be part of a check, reward, reference or command

Group = Literal[
    "redraft.engines",
    "redraft.checks",
    "redraft.rewards",
    "redraft.formats",
    "redraft.tasks",
    "redraft.commands",
]
OWN = "redraft"  # the package whose plugins are built in

KINDS: Mapping[str, str] = {
    "redraft.engines": "redraft.engines.load:EngineKind",
    "redraft.checks": "redraft.checks.kinds:CheckKind",
    "redraft.rewards": "redraft.train.rl.rewards:RewardKind",
    "redraft.formats": "redraft.chain.read.fields:Format",
    "redraft.tasks": "redraft.evaluation.tasks.tasks:Task",
    "redraft.commands": "collections.abc:Callable",
}
"""Maps each group to the type of the group's plugins."""


class PluginError(UsageError):
    """A plugin cannot be imported, crashes, has a wrong name or type, or returns a wrong type."""


class PluginWarning(UserWarning):
    """A plugin is broken and was left out."""


_TYPES: Mapping[str, tuple[Any, str]] = {
    "str": (str, "a text"),
    "int": (int, "a whole number"),
    "bool": (bool, "True or False"),
    "Callable": (Callable, "a function"),
    "Sequence": (Sequence, "a list"),
    "Set": (Set, "a set"),
    "frozenset": (frozenset, "a frozenset"),
    "tuple": (tuple, "a tuple"),
}


class Kind:
    """The base class of plugin dataclasses. A field with a value of a wrong type raises `TypeError`."""

    def __post_init__(self) -> None:
        for each in fields(self):  # type: ignore[arg-type]  # subclasses are dataclasses
            value, annotation = getattr(self, each.name), str(each.type)  # annotations are texts here
            kind, words = _TYPES.get(re.split(r"\W", annotation)[0], (object, ""))
            if not isinstance(value, kind) and not (value is None and annotation.endswith("| None")):
                raise TypeError(f"{type(self).__name__}.{each.name} is {value!r:.60}, not {words}")


@dataclass(frozen=True)
class Plugin:
    """A plugin declared as an entry point. `load` imports the plugin."""

    group: str
    name: str
    target: str  # its location: `module:attribute`
    package: str
    version: str
    rivals: tuple[str, ...] = ()  # other packages with a plugin of this name in this group

    def __str__(self) -> str:
        return f"the {self.group.removeprefix('redraft.').removesuffix('s')} {self.name!r}"

    def load(self, kind: type[T]) -> T:
        """Import the plugin.

        Raises:
            PluginError: The name is not valid or not unique, the import failed, or the type is wrong.
            RedraftError: The plugin raised this error.
        """
        if self.rivals:
            packages = " and ".join([self.package, *self.rivals])
            hint = f"pip uninstall {self.rivals[-1]}"
            raise PluginError(f"{self} is in {packages}, but only one package may define it.", hint=hint)
        if not re.fullmatch(_NAME, self.name, re.ASCII):
            raise self.fault("does not load: names have letters, digits, _ and -, and begin with a letter.")
        with self.running("does not load"), redirect_stdout(sys.stderr):  # standard output is for answers
            found: object = resolve_name(self.target.removesuffix(":"))
        if not isinstance(found, kind):
            raise self.fault(f"does not load: {self.target} is {found!r:.60}, not of type {kind.__name__}.")
        return found

    def guarded(self, function: F, kind: Any, passing: tuple[type[BaseException], ...] = ()) -> F:
        """Wrap a function of the plugin, so that crashes and results of a wrong type raise `PluginError`."""
        if self.package == OWN:
            return function

        @wraps(function)
        def call(*words: Any, **options: Any) -> Any:
            with self.running(passing=passing):
                found = function(*words, **options)
            if not isinstance(found, kind):
                raise self.fault(f"returned {found!r:.60}, not of type {kind.__name__}.")
            return found

        return call  # type: ignore[return-value]  # same parameters

    @contextmanager
    def running(
        self, fails: str = "crashed", passing: tuple[type[BaseException], ...] = ()
    ) -> Iterator[None]:
        """Turn errors in a `with` block into `PluginError`, except `RedraftError` and types in `passing`."""
        try:
            yield
        except (Exception, SystemExit) as error:
            if self.package == OWN or isinstance(error, (RedraftError, *passing)):
                raise
            import logging

            logging.getLogger(__name__).debug("%s %s.", self, fails, exc_info=error)
            raise self.fault(f"{fails}: {crash_of(error)}.") from error

    def fault(self, what: str) -> PluginError:
        """Return an error that names the plugin and the fault."""
        return PluginError(
            f"{self} of the package {self.package} {self.version} {what}",
            hint=f"Install another version of the package, or remove it: pip uninstall {self.package}\n"
            "If the package is yours, see docs/extending.md, and run redraft --debug … for the traceback.",
        )


def plugins(group: Group) -> Mapping[str, Plugin]:
    """Return the plugins of a group by name, without importing any plugin. redraft's plugins come first.

    Raises:
        UsageError: redraft's plugins are missing, because redraft is not installed or is out of date.
    """
    found = _installed(tuple(sys.path)).get(group, {})
    if not any(each.package == OWN for each in found.values()):
        raise UsageError(
            f"the {group} plugins are missing: redraft is not installed, or its installation is too old.",
            hint="pip install --no-deps --editable . (in the checkout of redraft)",
        )
    return found


def all_plugins() -> list[Plugin]:
    """Return the plugins of all groups."""
    found = _installed(tuple(sys.path))
    return [plugin for group in KINDS for plugin in found.get(group, {}).values()]


def load_all(group: Group, kind: type[T]) -> dict[str, T]:
    """Import all plugins of a group. A broken plugin is left out, with a warning the first time."""
    loaded: dict[str, T] = {}
    for name, plugin in plugins(group).items():
        try:
            loaded[name] = plugin.load(kind)
        except PluginError as error:
            _warn_once(f"{error.message} The plugin is not used.")
    return loaded


@cache
def _warn_once(message: str) -> None:
    warnings.warn_explicit(message, PluginWarning, "redraft", 0)


@cache
def _installed(path: tuple[str, ...]) -> dict[str, dict[str, Plugin]]:
    found = sorted(_in_folders(path), key=lambda each: (each.package != OWN, each.package))
    groups: dict[str, dict[str, Plugin]] = {}
    for each in found:
        group = groups.setdefault(each.group, {})
        first = group.get(each.name, each)
        group[each.name] = replace(first, rivals=(*first.rivals, each.package) if first is not each else ())
    return groups


def _in_folders(path: tuple[str, ...]) -> Iterator[Plugin]:
    seen = set()
    for folder in path:
        try:
            names = os.listdir(folder or ".")  # noqa: PTH208  (pathlib takes longer)
        except OSError:
            continue
        for name in names:
            package, dot, form = name.rpartition(".")
            package = package.partition("-")[0]
            if dot and form in ("dist-info", "egg-info") and package not in seen:
                seen.add(package)  # the first in the path counts
                yield from _of_metadata(os.path.join(folder, name))  # noqa: PTH118


def _of_metadata(folder: str) -> Iterator[Plugin]:
    try:
        with open(f"{folder}/entry_points.txt", encoding="utf-8") as file:  # noqa: PTH123
            text = file.read()
        if "[redraft." not in text:
            return
        metadata = "METADATA" if folder.endswith(".dist-info") else "PKG-INFO"
        with open(f"{folder}/{metadata}", encoding="utf-8") as file:  # noqa: PTH123
            headers = dict(line.strip().partition(": ")[::2] for line in takewhile(str.strip, file))
    except (OSError, ValueError):
        return
    group = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            group = line.strip("[]")
        elif group.startswith("redraft.") and "=" in line and not line.startswith(("#", ";")):
            name, target = (part.strip() for part in line.split("=", 1))
            yield Plugin(group, name, target.partition(" ")[0], headers["Name"], headers["Version"])
