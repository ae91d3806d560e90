"""The flags that verbs share, and where their values come from.

A flag overrides a recipe, a recipe the config file, and the config file redraft's defaults. The options are
defined in `redraft.options`; `takes` gives them to a command.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from pkgutil import resolve_name
from textwrap import fill
from typing import TYPE_CHECKING, Annotated, Any

from redraft.cli.shell import flag, tell
from redraft.errors import UsageError
from redraft.verify.kinds import check_kinds

if TYPE_CHECKING:
    from redraft.options import OptionModel
    from redraft.revision.settings import Settings

CacheFile = Annotated[
    Path | None, flag("FILE", "Take replies from FILE, and send no request twice.", "--cache")
]


@dataclass(frozen=True)
class FlagGroup:
    """The flags of a command."""

    # Module and name of the `OptionModel` with the options. It is imported for this command alone.
    group: str = "redraft.options:Flags"
    # The command's own defaults, where they are not redraft's.
    usual: Mapping[str, Any] = field(default_factory=dict)
    recipes: str = ""  # the folder of its shipped recipes, in `redraft/recipes`
    # Options that the config file's `[defaults]` do not give to this command.
    never_default: frozenset[str] = frozenset()
    other: str = ""  # the other command whose recipes lie in the same folder
    in_recipes: str = ""  # module and name of the options that a recipe may have, if not all

    @property
    def model(self) -> type[OptionModel]:
        """The group of options."""
        found: type[OptionModel] = resolve_name(self.group)
        return found


Given = Mapping[str, Any]  # the flags that were given, by name
USUAL = FlagGroup()  # the flags of `ask`, `chat` and `answer`


def fill_in(flags: Mapping[str, Any], group: FlagGroup = USUAL) -> Settings:
    """Fill in the values of recipe and config file."""
    from redraft.config import load_config
    from redraft.revision.settings import Recipes, Settings

    given = {name: value for name, value in flags.items() if value is not None}
    for name in given.keys() - {"journal", "cache"}:  # the name of a file is in no record
        value = given[name]
        check_utf8("--" + name.replace("_", "-"), *(value if isinstance(value, list) else [value]))
    known = group.model.model_fields.keys() - group.never_default
    below = {name: value for name, value in load_config().defaults.items() if name in known}
    recipes = Recipes(resolve_name(group.in_recipes or group.group), group.recipes, group.other)
    return Settings.read(group.model, given, below={**group.usual, **below}, recipes=recipes, tell=tell)


def check_utf8(what: str, *values: Any) -> None:
    """Refuse texts that are not UTF-8, because a record cannot hold them."""
    for value in values:
        try:
            str(value).encode()
        except UnicodeEncodeError as error:
            raise UsageError(
                f"{what} is not UTF-8 at character {error.start + 1}: {value!a:.60}.",
                hint="Convert it first: … | iconv -f latin1 -t utf-8",
            ) from None


def check_help() -> str:
    """Return the grammar of checks for `--help-all`, one entry for each kind, 80 columns wide."""
    kinds = check_kinds().values()
    width = max(len(kind.form) for kind in kinds) + 2
    entries = [
        fill(kind.about, 78, initial_indent=f"  {kind.form:<{width}}", subsequent_indent=" " * (width + 2))
        for kind in kinds
    ]
    return "\n".join(["Checks (docs/checks.md):", *entries])
