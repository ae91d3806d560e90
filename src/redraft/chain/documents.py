"""Parse YAML settings, and reject duplicate keys.

PyYAML silently keeps only the last value of a duplicate key. Keys from a YAML merge (`<<`) may be overridden.
Callers check which keys are allowed.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from redraft.errors import UsageError, fault_of, nearest

_MOST = 1 << 20  # maximum bytes of a settings file: far more than a person writes


def text_of_settings(path: Path) -> str:
    """Return the text of a settings file, or of standard input for `-`."""
    try:
        with nullcontext(sys.stdin.buffer) if str(path) == "-" else path.open("rb") as file:
            text = file.read(_MOST + 1)
        if len(text) > _MOST:
            raise UsageError(f"{path} is too large: it has over {_MOST:,} bytes.")
        return text.decode("utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} cannot be read: it is not UTF-8.") from None


def recipe_of(name: str, folder: str = "") -> tuple[str, dict[str, Any]]:
    """Return a recipe's path, and the recipe's settings without `about`.

    Args:
        name: The name of a recipe that redraft ships, or the path of a YAML file.
        folder: The subfolder of `redraft/recipes` with the shipped recipes.
    """
    path, shipped = Path(name).expanduser(), shipped_recipes(folder)
    if name in shipped:
        path = shipped[name]
    elif not path.exists():
        known = f", or one of: {', '.join(shipped)}" if shipped else "."
        hint = (not path.suffix and nearest(name, shipped)) or f"Give a YAML file{known}"
        raise UsageError(f"there is no {'file' if path.suffix else 'recipe'} {name!r:.200}.", hint=hint)
    document = yaml_of(text_of_settings(path), path)
    if not isinstance(document, dict):
        found = "is empty" if document is None else "is not a recipe"
        raise UsageError(f"{path} {found}.", hint="A recipe lists settings, one per line: name: value")
    return str(path), {key: value for key, value in document.items() if key != "about"}


def shipped_recipes(folder: str = "") -> dict[str, Path]:
    """Map recipe names to paths, for a subfolder of `redraft/recipes`."""
    found = Path(__file__).parent.parent.joinpath("recipes", folder).glob("*.yaml")
    return {path.stem: path for path in sorted(found)}


def yaml_of(text: str | bytes, name: object) -> Any:
    """Parse a YAML text. `name` identifies the text in error messages."""
    import yaml

    class Loader(yaml.SafeLoader):
        def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
            """Reject duplicate keys, before merges (`<<`) are applied."""
            node = super().compose_mapping_node(anchor)
            lines: dict[tuple[str, str], int] = {}
            for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
                line = key.start_mark.line + 1
                if before := lines.get((key.tag, key.value)):
                    message = f"{name}: {key.value!r:.60} appears twice, in lines {before} and {line}."
                    raise UsageError(message, hint="Keep one of them.")
                lines[key.tag, key.value] = line
            return node

    try:
        return yaml.load(text, Loader)  # noqa: S506  (a safe loader)
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError) as error:
        # PyYAML does not check the value of a `!!bool` or `!!timestamp` before it looks that value up.
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        fault = f": {fault_of(error)}"
        if mark is not None and problem is not None:
            fault = f", line {mark.line + 1}: {problem}"
        raise UsageError(f"{name} is not YAML{fault:.300}.", hint="Write name: value") from None
