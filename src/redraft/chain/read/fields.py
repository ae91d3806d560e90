"""Read the fields of published records, one by one.

Fields that no reader uses are kept in the chain's `meta`. Errors name the record, the field and the value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from typing import Any, NoReturn

from redraft.chain import Chain, Prompt, Step
from redraft.errors import RecordError
from redraft.jobs.plugins import Kind

_KINDS: dict[type, str] = {dict: "an object", str: "a text", int: "a whole number"}


@dataclass
class Fields:
    """The fields of one record. Fields that were read are removed from `rest`."""

    rest: dict[str, Any]
    where: str  # the record's location, for errors

    def text(self, name: str) -> str:
        """Return a text field. Raise a RecordError if the field is missing or not a text."""
        value = self._take(name)
        if not isinstance(value, str):
            self.fail(name, "should be a text", value)
        return value

    def text_or(self, name: str) -> str:
        """Return a text field, or an empty text if the field is missing or null."""
        return self.text(name) if self.rest.get(name) is not None else self.rest.pop(name, None) or ""

    def number(self, name: str) -> int:
        """Return an integer field. Raise a RecordError if the field is missing or not an integer."""
        value = self._take(name)
        if not isinstance(value, int) or isinstance(value, bool):
            self.fail(name, "should be a whole number", value)
        return value

    def items(self, name: str, kind: type = dict) -> list[Any]:
        """Return a list field. Raise a RecordError unless the field is a list with items of type `kind`."""
        value = self._take(name)
        if not isinstance(value, list):
            self.fail(name, "should be a list", value)
        for i, item in enumerate(value):
            if not isinstance(item, kind):
                self.fail(f"{name}.{i}", f"should be {_KINDS[kind]}", item)
        return value

    def items_or(self, name: str, kind: type = dict) -> list[Any]:
        """Return a list field, or an empty list if the field is missing or null."""
        return self.items(name, kind) if self.rest.get(name) is not None else self.rest.pop(name, None) or []

    def inner(self, name: str) -> Fields:
        """Return an object field as `Fields`. Raise a RecordError if it is missing or not an object."""
        return self.nested(name, self._take(name))

    def nested(self, name: str, value: Any) -> Fields:
        """Return the object `value` of the field `name` as `Fields`."""
        if not isinstance(value, dict):
            self.fail(name, "should be an object", value)
        return Fields(dict(value), f"{self.where}: {name}")

    def fail(self, name: str, problem: str, *found: Any) -> NoReturn:
        """Raise a RecordError about a field."""
        shown = "".join(map(repr, found))
        shown = f"{shown[:60]}…{shown[-1]}" if len(shown) > 60 else shown
        raise RecordError(f"{self.where}: {name} {problem}{f' (found {shown})' if shown else ''}.")

    def _take(self, name: str) -> Any:
        if name not in self.rest:
            self.fail(name, "is missing")
        return self.rest.pop(name)


def answered(prompt: Prompt, answer: str, model: str | None = None) -> Chain:
    """Return a chain with one answer, written by `model`."""
    return Chain(prompt=prompt, steps=(Step(answer=answer),), best=0, model={"name": model} if model else {})


def task(instruction: str, reference: str | None, extra: str = "", **meta: Any) -> Chain:
    """Return a chain without steps. `reference` is the gold answer, `extra` the prompt's input."""
    kept = {name: value for name, value in meta.items() if value}
    return Chain(prompt=Prompt(instruction=instruction, input=extra), meta={**gold(reference), **kept})


def gold(reference: str | list[str] | None) -> dict[str, Any]:
    """Return `{"reference": reference}` for `meta`, or {} for None. A list has a gold answer per turn."""
    return {} if reference is None else {"reference": reference}


@dataclass(frozen=True)
class Shape(Kind):
    """A record shape, identified by field names, and the function that reads the record."""

    name: str
    needs: Set[str]
    read: Callable[[Fields], Chain]
    refused: str = ""  # what such records are, if they cannot be read as prompts, answers or chains


@dataclass(frozen=True)
class Format(Kind):
    """The record shapes that a plugin of `redraft.formats` adds."""

    shapes: Sequence[Shape]  # in the order in which they are tried
    order: int = 0  # formats with a lower order are tried first; redraft's have 1 to 5

    def __post_init__(self) -> None:
        super().__post_init__()
        for each in self.shapes:
            if not isinstance(each, Shape):
                raise TypeError(f"one of the shapes of a Format is {each!r:.60}, not a Shape")
