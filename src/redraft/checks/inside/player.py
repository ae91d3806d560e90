"""Load a model's program, and call its functions on behalf of the tests.

The program has this whole interpreter and can change all of it, this module too. So nothing here judges: the
expected values, and the tests themselves, are in another process in another sandbox (`referee`). All that a
program can do is to return values.
"""

from __future__ import annotations

import builtins
import operator
import os
import sys
import types
from collections.abc import Callable

from redraft.checks.inside.wire import Channel, Closed, decode, encode, seal

TYPE_CHECKING = False  # importing typing would make each start slower
if TYPE_CHECKING:
    from typing import Any

FILE = "<program>"  # the name of the program in tracebacks

OPERATIONS: dict[str, Callable[..., Any]] = {
    "call": lambda function, *args, **kwargs: function(*args, **kwargs),
    **{function.__name__: function for function in (getattr, setattr, iter, next, len, str, repr, bool)},
    **{function.__name__: function for function in (operator.getitem, operator.setitem, operator.eq)},
    "isinstance": lambda kind, value: isinstance(value, kind),
}
"""What the tests can do with an object of the program."""

_MUTABLE = (list, dict, set, bytearray)


class Player:
    """A program, and the objects of it that the tests hold, by number. Object 0 is the program's module."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._module = types.ModuleType("program")
        self._objects: list[Any] = [self._module]

    def serve(self) -> None:
        """Answer requests until the tests are over."""
        while True:
            self._send(self._reply(self._channel.receive()))

    def _send(self, reply: dict[str, Any]) -> None:
        try:
            self._channel.send(reply)
        except ValueError as error:
            self._channel.send({"fault": fault_of(error)})

    def _reply(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            if "program" in request:
                return self._load(request["program"], request["setup"])
            return self._do(request)
        except Closed:
            raise
        except BaseException as error:  # noqa: BLE001  (a program may raise anything)
            return {"fault": fault_of(error)}

    def _load(self, program: str, setup: str) -> dict[str, Any]:
        """Run the setup and the program. A setup that uses the program's names runs after it."""
        sys.modules["program"] = self._module
        space = self._module.__dict__
        try:
            exec(compile(setup, "<setup>", "exec"), space)  # noqa: S102  (this is what the sandbox is for)
            again = False
        except NameError:
            again = True
        exec(compile(program, FILE, "exec"), space)  # noqa: S102
        if again:
            exec(compile(setup, "<setup>", "exec"), space)  # noqa: S102
        return {"value": None}

    def _do(self, request: dict[str, Any]) -> dict[str, Any]:
        args = [decode(arg, self._find) for arg in request["args"]]
        kwargs = {name: decode(arg, self._find) for name, arg in request.get("kwargs", {}).items()}
        value = OPERATIONS[request["do"]](*args, **kwargs)
        changed = {
            index: now
            for index, arg in enumerate(args)
            if isinstance(arg, _MUTABLE) and (now := self._encode(arg)) != request["args"][index]
        }
        return {"value": self._encode(value), "changed": changed}

    def _encode(self, value: Any) -> Any:
        return encode(value, self._keep)

    def _keep(self, value: Any) -> Any:
        if isinstance(value, type) and value.__module__ == "builtins":
            return {"builtin": value.__qualname__}
        self._objects.append(value)
        return {"object": len(self._objects) - 1, "kind": type(value).__name__[:60]}

    def _find(self, token: dict[str, Any]) -> Any:
        if "builtin" in token:
            return getattr(builtins, token["builtin"])
        if "iterator" in token:
            return iter(decode(token["iterator"], self._find))
        if "callback" in token:
            return self._callback(token["callback"])
        return self._objects[token["object"]]

    def _callback(self, number: int) -> Callable[..., Any]:
        """Return a function that calls a function of the tests, such as a lambda for `key=`."""

        def call(*args: Any, **kwargs: Any) -> Any:
            self._channel.send({"callback": number, "given": self._encode([args, kwargs])})
            while "result" not in (message := self._channel.receive()):
                self._send(self._reply(message))
            return decode(message["result"], self._find)

        return call


def fault_of(error: BaseException) -> dict[str, Any]:
    """Describe an exception: its type and bases, its text, and the line of the program."""
    line, place = None, error.__traceback__
    while place is not None:
        if place.tb_frame.f_code.co_filename == FILE:
            line = place.tb_lineno
        place = place.tb_next
    text = str(error)
    if isinstance(error, SyntaxError) and error.filename == FILE:
        line, text = error.lineno, error.msg
    return {
        "type": type(error).__name__[:60],
        "bases": [kind.__name__[:60] for kind in type(error).__mro__],
        "text": " ".join(text[:1000].split())[:200],
        "line": line,
    }


def main() -> None:
    """Speak with the tests over standard input and output, which the program then does not have."""
    channel = Channel(os.dup(0), os.dup(1))
    seal(int(sys.argv[1]))
    channel.send("ready")
    try:
        Player(channel).serve()
    finally:
        os._exit(0)  # neither threads nor exit handlers of the program may keep it
