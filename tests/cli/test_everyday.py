"""`--help` fits a screen: it has the options that people use, and `--help-all` has all."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from redraft.cli.commands import app
from redraft.cli.verb import _EVERYDAY, everyday_options
from tests.cli.verbs import redraft

MOST = 18  # options that `--help` may show, with itself and `--help-all`
OPTION = re.compile(r"^  (?:-\w, )?--([a-z][\w-]*)", re.MULTILINE)


def verbs_of(command: object, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(command, TyperGroup):
        for name, below in command.commands.items():
            yield from verbs_of(below, (*before, name))
    else:
        yield before


VERBS = list(verbs_of(get_command(app)))
LARGE = [words for words in VERBS if everyday_options(words[-1])]


def shown(*words: str) -> set[str]:
    _, _, options = redraft(*words, COLUMNS="80").output.partition("\nOptions:\n")
    return {name.replace("-", "_") for name in OPTION.findall(options)}


@pytest.mark.parametrize("words", VERBS, ids=" ".join)
def test_help_is_short(words: tuple[str, ...]) -> None:
    assert len(shown(*words, "--help")) <= MOST


@pytest.mark.parametrize("words", LARGE, ids=" ".join)
def test_all_options_are_in_help_all(words: tuple[str, ...]) -> None:
    some, all_of_them = shown(*words, "--help"), shown(*words, "--help-all")
    assert some < all_of_them
    often = {"json" if name == "as_json" else name for name in everyday_options(words[-1])}
    assert some == often | {"help_all"} | ({"help"} & some), "a name in everyday.py is of no option, or two"


def test_every_name_is_of_a_command() -> None:
    assert set(_EVERYDAY) == {words[-1] for words in LARGE}


def test_help_says_how_many_there_are_and_some_checks() -> None:
    said = redraft("ask", "--help").output
    assert re.search(r"--help-all +Show all \d\d options and exit\.", said)
    assert "Checks: words<=50, contains:TEXT" in said
