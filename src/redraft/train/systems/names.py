"""`{NAME}` in the options of a stage: what stands for a value, a file, or an output. `{{` is a brace."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

_NAME = re.compile(r"\{\{|\}\}|\{([a-z][\w-]*)\}")


def filled(value: Any, names: Mapping[str, Any]) -> Any:
    """Return an option with `{NAME}` replaced for these names; braces that are doubled stay so."""

    def fill(text: str) -> Any:
        if (whole := _NAME.fullmatch(text)) and whole[1] in names:
            return names[whole[1]]  # with its type
        return _NAME.sub(lambda found: str(names.get(found[1], found[0])) if found[1] else found[0], text)

    return _texts(value, fill)


def unbraced(value: Any) -> Any:
    """Return an option with doubled braces as single ones."""
    return _texts(value, lambda text: text.replace("{{", "{").replace("}}", "}"))


def _texts(value: Any, change: Callable[[str], Any]) -> Any:
    if isinstance(value, list):
        return [_texts(each, change) for each in value]
    if isinstance(value, dict):
        return {key: _texts(each, change) for key, each in value.items()}
    return change(value) if isinstance(value, str) else value


def names_in(value: Any) -> Iterator[str]:
    """Yield the names in braces in an option."""
    if isinstance(value, str):
        yield from (found[1] for found in _NAME.finditer(value) if found[1])
    elif isinstance(value, list | dict):
        for each in value.values() if isinstance(value, dict) else value:
            yield from names_in(each)
