"""Small JSON objects, and the ways in which people and models break them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from random import Random
from typing import Any

from tiny_selfee_lexicon import ADJECTIVES, NOUNS

NAMES = (
    "Ada",
    "Ben",
    "Cleo",
    "Dan",
    "Eva",
    "Finn",
    "Gina",
    "Hugo",
    "Ines",
    "Jon",
    "Kim",
    "Leo",
    "Mia",
    "Nora",
)
CITIES = ("Oslo", "Rome", "Lima", "Paris", "Tokyo", "Cairo", "Delhi", "Quito", "Berlin", "Boston")
VALUES: dict[str, Callable[[Random], Any]] = {
    "name": lambda rng: rng.choice(NAMES),
    "age": lambda rng: rng.randint(1, 99),
    "city": lambda rng: rng.choice(CITIES),
    "item": lambda rng: rng.choice(NOUNS),
    "look": lambda rng: rng.choice(ADJECTIVES),
    "price": lambda rng: rng.randint(1, 99),
    "open": lambda rng: rng.choice((True, False)),
    "note": lambda rng: rng.choice((None, rng.choice(NOUNS))),
    "sizes": lambda rng: rng.sample(range(1, 10), rng.randint(1, 3)),
}


def thing(rng: Random) -> dict[str, Any]:
    """An object of two or three pairs."""
    return {key: value(rng, key) for key in rng.sample(list(VALUES), rng.randint(2, 3))}


def value(rng: Random, key: str) -> Any:
    """A value such as this key has."""
    return VALUES[key](rng)


def canonical(text: str) -> str | None:
    """A JSON text in one form, with keys in order; None if it cannot be parsed."""
    try:
        return json.dumps(json.loads(text), sort_keys=True)
    except (ValueError, RecursionError):
        return None


def broken(rng: Random, whole: str) -> str:
    """A JSON object with one fault, or two; it cannot be parsed."""
    while True:
        text = whole
        for fault in rng.sample(FAULTS, rng.choice((1, 1, 2))):
            text = fault(rng, text)
        if canonical(text) is None:
            return text


def _without(pattern: str) -> Callable[[Random, str], str]:
    """A fault that leaves one of the places out that a pattern finds, if there is one."""

    def leave_out(rng: Random, text: str) -> str:
        places = list(re.finditer(pattern, text))
        if not places:
            return text
        place = rng.choice(places)
        return text[: place.start()] + text[place.end() :]

    return leave_out


def _python(_: Random, text: str) -> str:
    for ours, theirs in (("true", "True"), ("false", "False"), ("null", "None")):
        text = re.sub(rf"\b{ours}\b", theirs, text)
    return text


def _trailing(_: Random, text: str) -> str:
    return text[:-1] + ",}" if text.endswith("}") else text


def _single(_: Random, text: str) -> str:
    return text.replace('"', "'")


def _bare_key(rng: Random, text: str) -> str:
    keys = re.findall(r'"(\w+)":', text)
    return text.replace(f'"{(key := rng.choice(keys))}":', f"{key}:") if keys else text


FAULTS: tuple[Callable[[Random, str], str], ...] = (
    _without(r"\}$"),
    _without(r"\]"),
    _without(r',(?= ")'),
    _without(r'(?<=\w)"(?=:)'),
    _without(r'(?<=\w)"(?=[,}])'),
    _without(r'(?<="):'),
    _python,
    _trailing,
    _single,
    _bare_key,
)
