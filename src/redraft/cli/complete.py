"""Values that a shell completes: modes, checks, recipes, models, tasks.

`redraft --install-completion` sets it up. Each function imports what it needs when Tab is pressed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from redraft.plugins import plugins

if TYPE_CHECKING:
    from redraft.options import Option

Found = list[tuple[str, str]]  # values, each with a few words on it
Completer = Callable[[], Found]  # typer leaves out what does not begin as typed


def of_option(name: str, option: Option, recipes: str) -> Completer | None:
    """Return what completes the value of an option; None if a shell had better offer files.

    `recipes` is the folder of the command's shipped recipes.
    """
    kinds = (option.type, *get_args(option.type))
    choices = [choice for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)]
    if choices:
        return lambda: _plain(choices)
    named = {"recipe": lambda: recipes_in(recipes), "prompts": wordings, "check": checks}
    return named.get(name) or (models if option.metavar == "REF" else None)


def tasks() -> Found:
    """Return the tasks of `redraft eval`."""
    return _plain(plugins("redraft.tasks"))


def wordings() -> Found:
    """Return the names of `--prompts`."""
    from redraft.revision.prompts import SHIPPED

    return _plain(SHIPPED)


def recipes_in(folder: str) -> Found:
    """Return the shipped recipes of a command."""
    from redraft.formats.documents import shipped_recipes

    return _plain(shipped_recipes(folder))


def checks() -> Found:
    """Return the kinds of checks: an example, or the form up to what the user writes."""
    from redraft.verify.kinds import check_kinds

    return [(_typed(re.split("[A-Z]", kind.form)[0]), kind.about) for kind in check_kinds().values()]


def models() -> Found:
    """Return names of models, models of the hub that are here, and short names of servers."""
    from redraft import hub
    from redraft.config import load_config
    from redraft.engines.recommended import BY_NAME
    from redraft.servers import SERVERS

    found = [("default", "the small model that redraft fetches by itself")]
    found += [(name, f"{model.billions:g} billion parameters") for name, model in BY_NAME.items()]
    found += [(f"{each.repo}/{each.name}", "on this machine") for each in hub.cached()]
    found += [(f"{name}:", server.url) for name, server in SERVERS.items()]
    return [*found, *((f"{name}:", url) for name, url in load_config().servers.items())]


def _plain(values: Iterable[Any]) -> Found:
    return [(str(value), "") for value in values]


def _typed(text: str) -> str:
    """Return a text as it has to be typed. zsh and fish quote by themselves, and bash does not."""
    bash = os.environ.get("_REDRAFT_COMPLETE") == "complete_bash"
    return re.sub(r"([<>()~])", r"\\\1", text) if bash else text
