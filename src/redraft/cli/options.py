"""Define the flags that commands share, and fill in values that were not given.

A value comes from the flag, the recipe, the config file or redraft's default, in this order.
`takes` adds the options of `redraft.options` to a command.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass
from functools import cache, cached_property, update_wrapper
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_type_hints

from redraft.cli.shell import flag, tell

if TYPE_CHECKING:
    from redraft.options import Option, OptionModel
    from redraft.revision.settings import Settings

Given = Mapping[str, Any]  # the flags that were given, by name
USUAL = "redraft.options:Flags"  # the options of `ask`, `chat` and `answer`


def fill_in(flags: Mapping[str, Any], group: str = USUAL) -> Settings:
    """Return the settings from flags, recipe and config file. `group` is as in `takes`."""
    from redraft.engines.config import load_config
    from redraft.revision.settings import Settings

    model: type[OptionModel] = resolve_name(group)
    known = model.model_fields.keys() - model.NOT_OF_CONFIG
    below = {name: value for name, value in load_config().defaults.items() if name in known}
    return Settings.read(model, flags, below=below, table="--", tell=tell)


def takes(group: str = USUAL, repeated: str = "") -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that gives a command the options of an `OptionModel`, and `--recipe`, in `flags`.

    `group` is the `module:name` of the `OptionModel`. The flag `repeated` can be given often, as a list.
    """

    def parameters() -> list[inspect.Parameter]:
        from redraft.options import LOOP, OF_ANSWERS, OF_RUNS, Option, options_of

        model: type[OptionModel] = resolve_name(group)
        flags = {name: option for name, option in options_of(model).items() if option.group}
        own = [each.group for each in flags.values() if each.group not in (*OF_ANSWERS, *OF_RUNS)]
        headings = [*OF_RUNS, *dict.fromkeys(own), *OF_ANSWERS]
        text = "take flags from a recipe: a YAML file, or a shipped one"
        recipe = Option(text, own[0] if own else LOOP, "NAME|FILE")
        options = sorted([("recipe", recipe), *flags.items()], key=lambda o: headings.index(o[1].group))
        return [_parameter(name, o, model.OWN_DEFAULTS.get(name), name == repeated) for name, o in options]

    return lambda command: WithOptions(command, parameters)


def _parameter(name: str, option: Option, usual: Any, repeated: bool) -> inspect.Parameter:
    from redraft.options import BATCHES, RUN

    kinds = (option.type, *get_args(option.type))
    kind = list[str] if repeated else next((k for k in (bool, int, float, list[str]) if k in kinds), str)
    default = option.default if usual is None else usual
    text = option.text if usual is None else option.text.partition(" [")[0]
    if not isinstance(default, bool) and default not in (None, []):
        text = f"{text} [{default}]"
    if plain := option.group in (RUN, BATCHES):
        text, mark, rest = text.partition(" [")
        text = f"{text[:1].upper()}{text[1:]}." + (f"  [{rest}" if mark else "")
    names = ["--" + name.replace("_", "-")] if option.short or plain else []
    names += [option.short] if option.short else []
    shown = flag(option.metavar, text, *names, rich_help_panel=option.group)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, shown]
    )


class WithOptions:
    """A command with the additional options that `options()` returns.

    A parameter whose type is a dataclass becomes an option for each field of the dataclass. The parameter
    `flags: Given` receives the values of `options` that the user gave.
    """

    def __init__(
        self, command: Callable[..., None], options: Callable[[], Sequence[inspect.Parameter]] = list
    ) -> None:
        update_wrapper(self, command, ("__module__", "__name__", "__qualname__", "__doc__"), ())
        self._command, self._options = command, cache(options)

    @cached_property
    def _own(self) -> dict[str, tuple[Any, list[inspect.Parameter]]]:
        hints, found = get_type_hints(self._command, include_extras=True), {}
        for name, each in inspect.signature(self._command).parameters.items():
            kind: Any = hints[name]
            if kind != Given:
                found[name] = kind, [each]
                if is_dataclass(kind) and isinstance(kind, type):
                    hints |= get_type_hints(kind, include_extras=True)
                    found[name] = kind, [*inspect.signature(kind).parameters.values()]
        return {
            name: (kind, [p.replace(annotation=hints[p.name]) for p in spread])
            for name, (kind, spread) in found.items()
        }

    @property
    def __signature__(self) -> inspect.Signature:
        own = [each for _, spread in self._own.values() for each in spread]
        return inspect.Signature([p.replace(kind=p.KEYWORD_ONLY) for p in [*own, *self._options()]])

    @property
    def __annotations__(self) -> dict[str, Any]:  # type: ignore[override]
        return {p.name: p.annotation for p in self.__signature__.parameters.values()}

    def __call__(self, **values: Any) -> None:
        """Run the command with the values that typer read."""
        given = {p.name: values.pop(p.name) for p in self._options()}
        for name, (kind, spread) in self._own.items():
            if is_dataclass(kind) and isinstance(kind, type):
                values[name] = kind(**{p.name: values.pop(p.name) for p in spread})
        if self._options():
            values["flags"] = {name: value for name, value in given.items() if value is not None}
        self._command(**values)
