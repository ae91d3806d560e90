"""Checks that are Python functions, written as `python:module.function` or passed as functions.

docs/checks.md describes the arguments and results of such functions. The functions run in this
process, with all rights. Only modules that the user named are imported.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Self, TypeVar

from redraft.chain import Prompt
from redraft.checks.base import Outcome, failed, passed
from redraft.errors import CheckError, CheckSyntaxError, UsageError, crash_of, shown

F = TypeVar("F", bound=Callable[..., Any])

_HINT = "Write python:module.function. The module must be in this folder or installed."


@dataclass(frozen=True)
class FunctionCheck:
    """`python:module.function`: a function judges the answer."""

    path: str
    function: Callable[..., Any] = field(repr=False)

    def __post_init__(self) -> None:
        """Reject a function that cannot be called with an answer, before any answer is paid for."""
        hint = "Pass a function that accepts the answer, or the answer and the prompt."
        if isinstance(self.function, type):
            raise CheckSyntaxError(f"{self.name} is a class, not a function.", hint=hint)
        with suppress(ValueError):  # some C functions have no signature
            try:
                inspect.signature(self.function).bind(*["text"] * (1 + takes_prompt(self.function)))
            except TypeError as error:
                raise CheckSyntaxError(f"{self.name} cannot accept an answer: {error}.", hint=hint) from None

    @classmethod
    def of(cls, path: str) -> Self:
        """Import a function."""
        module_name, _, name = path.rpartition(".")
        if not module_name or not all(part.isidentifier() for part in path.split(".")):
            raise CheckSyntaxError(f"python:{path} does not name a function in a module.", hint=_HINT)
        module = imported(module_name, path)
        function = getattr(module, name, None)
        if not callable(function):
            found = "has no function" if function is None else "has no callable"
            where = getattr(module, "__file__", None) or "built in"
            raise CheckSyntaxError(f"python:{path}: {module_name} ({where}) {found} {name!r}.", hint=_HINT)
        return cls(path, function)

    @classmethod
    def around(cls, function: Callable[..., Any]) -> Self:
        """Make a check from a function."""
        name = getattr(function, "__qualname__", type(function).__qualname__)
        return cls(f"{getattr(function, '__module__', None) or 'here'}.{name}", function)

    @property
    def name(self) -> str:
        """The check as written: `python:module.function`."""
        return f"python:{self.path}"

    @property
    def demand(self) -> str:
        """The function's attribute `demand`; empty if missing."""
        demand = getattr(self.function, "demand", "")
        return demand if isinstance(demand, str) else ""

    def check(self, answer: str, prompt: Prompt) -> Outcome | Awaitable[Outcome]:
        """Call the function, and convert the result to an outcome."""
        result = self.function(answer, prompt) if takes_prompt(self.function) else self.function(answer)

        async def later() -> Outcome:
            return self._outcome(await result)

        return later() if inspect.isawaitable(result) else self._outcome(result)

    def _outcome(self, result: object) -> Outcome:
        code, name = getattr(self.function, "__code__", None), self.path.rpartition(".")[2]
        at = f"{Path(code.co_filename).name}:{code.co_firstlineno}" if code else ""
        name = f"The function at {at}" if at and name == "<lambda>" else name
        if type(result).__module__ == "numpy":  # numpy's booleans and numbers are not Python's
            result = getattr(result, "item", lambda: result)()
        match result:
            case Outcome() if result.passed or result.message.strip():
                return result
            case None | True if result or code is None or code.co_name != "<lambda>":
                return passed(f"{name} has no complaint.")
            case False:
                unmet = f"This is not met: {self.demand}"
                return failed(unmet if self.demand else f"{name} rejects the answer.")
            case str() if result.strip():
                return failed(result)
            case int() | float() if 0 <= result <= 1:
                message = f"{name} gives the answer a score of {result:.2g} (best: 1)."
                return passed(message) if result == 1 else failed(message, score=result)
        raise CheckError(
            f"the check {self.name!r}{f' ({at})' * bool(at)} returned {result!r:.80},"
            " which is not a valid result.",
            hint="Return True or None to pass (a lambda: bool(…)), False or a complaint to fail, a score "
            "from 0 to 1, redraft.passed(…), or redraft.failed(…) with a message.",
        )


def demands(text: str) -> Callable[[F], F]:
    """Return a decorator that sets a function's demand, a sentence that tells the model what to do.

        @redraft.demands("Say please.")
        def polite(answer: str) -> bool:
            return "please" in answer.lower()

    Raises:
        UsageError: `text` is not a string, or the decorated object cannot store a demand.
    """
    if not isinstance(text, str):
        raise UsageError(
            f"the demand is {shown(text)}, not a sentence.",
            hint="Write a sentence for the model: @redraft.demands('Say please.')",
        )

    def decorate(function: F) -> F:
        try:
            function.demand = text  # type: ignore[attr-defined]
        except AttributeError:
            found = f"{shown(function)} cannot store a demand."
            raise UsageError(found, hint="Decorate a function that calls it.") from None
        return function

    return decorate


def imported(name: str, path: str) -> ModuleType:
    """Import the module of `python:path`, from an installed package or else from the current folder.

    Raises:
        CheckSyntaxError: There is no such module.
        CheckError: Importing the module failed.
    """
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
    hint = f"Try: python -c 'import {name}'"
    raise CheckError(f"python:{path}: importing {name} failed: {problem}.", hint=hint)


def takes_prompt(function: Callable[..., Any]) -> bool:
    """Return whether a function accepts the prompt: the second parameter is required, or named `prompt`."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except ValueError:  # some C functions have no signature
        return False
    places = [p for p in parameters if p.kind in {p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD}]
    return len(places) > 1 and (places[1].default is inspect.Parameter.empty or places[1].name == "prompt")
