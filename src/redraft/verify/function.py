"""Checks that are Python functions of yours: `python:module.function`, or the function itself from Python.

A function takes the answer, or the answer and the `Prompt`, and says what it thinks in the way that suits it:

| it returns | which means |
|---|---|
| `True`, `False` | passed or not |
| a number from 0 to 1 | the score; 1 passes |
| a text | a complaint: not passed, and this is the feedback |
| `None` | no complaint: passed |
| an `Outcome` | all of it |

It may be async. It runs in this process with all its rights: only what the user typed is ever imported.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Self

from redraft.chain import Prompt
from redraft.errors import CheckError, CheckSyntaxError
from redraft.verify.base import Outcome, crash_of, failed, passed

_HINT = "Write python:module.function; the module is looked for in this folder and among what is installed."


@dataclass(frozen=True)
class FunctionCheck:
    """`python:module.function`: what a function says of an answer.

    Attributes:
        path: Module and name, with dots.
    """

    path: str
    function: Callable[..., Any] = field(repr=False)

    @classmethod
    def of(cls, path: str) -> Self:
        """Imports the function that a path names.

        Raises:
            CheckSyntaxError: No such module, or no such function in it.
            CheckError: The module was found, and importing it failed.
        """
        module_name, _, name = path.rpartition(".")
        if not module_name or not all(part.isidentifier() for part in path.split(".")):
            raise CheckSyntaxError(f"python:{path}: this does not name a function in a module.", hint=_HINT)
        module = _import(module_name, path)
        function = getattr(module, name, None)
        if not callable(function):
            found = "has no function" if function is None else "has something else than a function"
            where = getattr(module, "__file__", None) or "built in"
            raise CheckSyntaxError(f"python:{path}: {module_name} ({where}) {found} {name!r}.", hint=_HINT)
        return cls(path, function)

    @classmethod
    def around(cls, function: Callable[..., Any]) -> Self:
        """A check around a function that is at hand."""
        name = getattr(function, "__qualname__", type(function).__qualname__)
        return cls(f"{getattr(function, '__module__', None) or 'here'}.{name}", function)

    @property
    def name(self) -> str:
        """The short form."""
        return f"python:{self.path}"

    def check(self, answer: str, prompt: Prompt) -> Outcome | Awaitable[Outcome]:
        """Calls the function and reads what it returns.

        Raises:
            CheckError: It returned something that says nothing about an answer.
        """
        said = self.function(answer, prompt) if _takes_prompt(self.function) else self.function(answer)
        return self._later(said) if inspect.isawaitable(said) else self._outcome(said)

    async def _later(self, said: Awaitable[Any]) -> Outcome:
        return self._outcome(await said)

    def _outcome(self, said: object) -> Outcome:
        match said:
            case Outcome():
                return said
            case None | True:
                return passed(f"{self.path} has no complaint.")
            case False:
                return failed(f"{self.path} rejects the answer, and does not say why.")
            case str():
                return failed(said)
            case int() | float() if 0 <= said <= 1:
                message = f"{self.path} gives the answer {said:.2g} of 1."
                return passed(message) if said == 1 else failed(message, score=said)
        raise CheckError(
            f"the check {self.name!r} returned {said!r:.80}, which says nothing about an answer.",
            hint="Return True or False, a number from 0 to 1, a complaint as text, None, or an Outcome.",
        )


def _import(name: str, path: str) -> ModuleType:
    """Imports a module from the current folder, like `python -m`, but after what is installed."""
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.append(folder)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            raise CheckSyntaxError(f"python:{path}: there is no module {error.name!r}.", hint=_HINT) from None
        problem = f"it needs the module {error.name!r}, which is not installed"
    except (Exception, SystemExit) as error:  # noqa: BLE001  (a user's module may raise anything)
        problem = crash_of(error)
    raise CheckError(
        f"python:{path}: importing {name} failed: {problem}.", hint=f"Try: python -c 'import {name}'"
    )


def _takes_prompt(function: Callable[..., Any]) -> bool:
    """Whether a function wants the prompt: its second parameter is required, or is called `prompt`."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except ValueError:  # some functions written in C do not tell
        return False
    places = [p for p in parameters if p.kind in {p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD}]
    return len(places) > 1 and (places[1].default is inspect.Parameter.empty or places[1].name == "prompt")
