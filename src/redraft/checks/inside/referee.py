"""Run tests on a program that is elsewhere.

The tests run here. The names of the program stand for it: calling one sends the arguments to the program's
own process (`player`) and gets a plain value back, with which the test goes on. No code of the program runs
in this process, and no test, and so no expected value, ever leaves it.
"""

from __future__ import annotations

import builtins
import json
import os
import sys
from collections.abc import Callable, ItemsView, Iterator, KeysView, ValuesView

from redraft.checks.inside.wire import Channel, Closed, decode, encode, seal

TYPE_CHECKING = False  # importing typing would make each start slower
if TYPE_CHECKING:
    from typing import Any, NoReturn

SHOWN = 120  # most characters of a value or a call in a report


class Unsendable(Exception):
    """A test gives the program an object that cannot be sent. The text is its type."""


class Remote:
    """An object of the program. It equals no plain value, whatever the program's `__eq__` says."""

    __slots__ = ("_kind", "_link", "_number")

    def __init__(self, link: Link, number: int, kind: str) -> None:
        for name, value in (("_link", link), ("_number", number), ("_kind", kind)):
            object.__setattr__(self, name, value)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it, with the call in the report."""
        return self._link.call(self, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        return self._link.ask("getattr", self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._link.ask("setattr", self, name, value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Remote) and self._link.ask("eq", self, other) is True

    __hash__ = object.__hash__

    def __instancecheck__(self, value: Any) -> bool:
        return self._link.ask("isinstance", self, value) is True


def _number_and_kind(remote: Remote) -> tuple[int, str]:
    return remote._number, remote._kind  # noqa: SLF001  (as attributes they would hide the program's)


def _relay(operation: str) -> Callable[..., Any]:
    return lambda self, *args: self._link.ask(operation, self, *args)


for _operation in ("iter", "next", "len", "str", "repr", "bool", "getitem", "setitem"):
    setattr(Remote, f"__{_operation}__", _relay(_operation))


class Link:
    """The connection to the program.

    Attributes:
        last: The last call of a function of the program, for the report: `call`, and `value` if it returned.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._callbacks: list[Callable[..., Any]] = []
        self._named: dict[int, str] = {}
        self.last: dict[str, str] = {}

    def load(self, program: str, setup: str) -> dict[str, Any] | None:
        """Load the program. Return its fault, or None."""
        self._channel.send({"program": program, "setup": setup})
        reply = self._receive()
        return _fault(reply) if "fault" in reply else None

    def name(self, name: str) -> Any:
        """Return what the program calls so. Raises AttributeError if it has no such name."""
        value = self.ask("getattr", Remote(self, 0, "module"), name)
        if isinstance(value, Remote):
            self._named[_number_and_kind(value)[0]] = name
        return value

    def call(self, function: Remote, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a function of the program."""
        shown = [_shown(arg) for arg in args] + [f"{key}={_shown(value)}" for key, value in kwargs.items()]
        number, kind = _number_and_kind(function)
        name = self._named.get(number, kind)
        self.last = {"call": _short(f"{name}({', '.join(shown)})")}
        value = self.ask("call", function, *args, **kwargs)
        self.last["value"] = _shown(value)
        return value

    def ask(self, operation: str, *args: Any, **kwargs: Any) -> Any:
        """Let the program do something with its objects. Raises what that raised."""
        self._channel.send(
            {
                "do": operation,
                "args": [encode(arg, self._keep) for arg in args],
                "kwargs": {name: encode(arg, self._keep) for name, arg in kwargs.items()},
            }
        )
        reply = self._reply()
        if "fault" in reply:
            _raise(_fault(reply), operation)
        for index, now in reply["changed"].items():
            _change(args[int(index)], self._decode(now))
        return self._decode(reply["value"])

    def _reply(self) -> dict[str, Any]:
        """Wait for the reply. Meanwhile the program may call functions that it was given."""
        while "callback" in (message := self._receive()):
            args, kwargs = self._decode(message["given"])
            result = self._callbacks[message["callback"]](*args, **kwargs)
            self._channel.send({"result": encode(result, self._keep)})
        return message

    def _receive(self) -> dict[str, Any]:
        message = self._channel.receive()
        if not isinstance(message, dict):
            raise Closed
        return message

    def _decode(self, data: Any) -> Any:
        return decode(data, self._find)

    def _find(self, token: dict[str, Any]) -> Any:
        if "builtin" in token:
            kind = getattr(builtins, str(token["builtin"]))
            if not isinstance(kind, type):  # a program may send any name
                raise TypeError(token["builtin"])
            return kind
        return Remote(self, int(token["object"]), str(token["kind"])[:60])

    def _keep(self, value: Any) -> Any:
        if isinstance(value, Remote):
            return {"object": _number_and_kind(value)[0]}
        if (name := getattr(value, "__name__", "")) and getattr(builtins, name, None) is value:
            return {"builtin": name}
        if isinstance(value, Iterator | KeysView | ValuesView | ItemsView):
            return {"iterator": [encode(item, self._keep) for item in value]}
        if callable(value):
            self._callbacks.append(value)
            return {"callback": len(self._callbacks) - 1}
        raise Unsendable(type(value).__name__)


def _fault(reply: dict[str, Any]) -> dict[str, Any]:
    """Return the fault in a reply with parts of the right types, whatever a program has sent."""
    try:
        fault = reply["fault"]
        return {
            **{name: " ".join(str(fault[name])[:200].split()) for name in ("type", "text")},
            "bases": [str(name)[:60] for name in fault["bases"][:20]],
            "line": None if fault["line"] is None else int(fault["line"]),
        }
    except (KeyError, TypeError, ValueError, OverflowError):
        raise Closed from None


def _raise(fault: dict[str, Any], operation: str) -> NoReturn:
    """Raise an exception of the program, as the nearest built-in one.

    `StopIteration` comes from iterators alone: raised by a function, it would quietly end a loop.
    """
    kinds = [getattr(builtins, str(name), None) for name in fault["bases"]]
    fitting = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Exception)]
    kind = fitting[0] if fitting else Exception
    if kind is StopIteration and operation != "next":
        kind = RuntimeError
    error = kind.__new__(kind)
    error.args = (fault["text"],)
    error.fault = fault  # type: ignore[attr-defined]
    raise error


def _change(arg: Any, now: Any) -> None:
    """Give a list, dict, set or bytearray the content that the program has given it."""
    if isinstance(arg, list | bytearray):
        arg[:] = now
    else:
        arg.clear()
        arg.update(now)


def _shown(value: Any) -> str:
    if isinstance(value, Remote):
        return f"<{_number_and_kind(value)[1]} object>"
    try:
        return _short(repr(value))
    except Exception:  # noqa: BLE001  (a program's own `__repr__` may be part of it)
        return f"<{type(value).__name__} object>"


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def judge(link: Link, test: str, names: list[str], imports: str) -> dict[str, Any]:
    """Run a test. Return `passed`, and for a failed one what the program did."""
    space: dict[str, Any] = {"__name__": "test"}
    exec(imports, space)  # noqa: S102  (tests are the user's, and this is a sandbox)
    link.last = {}
    try:
        for name in names:
            try:
                space[name] = link.name(name)
            except AttributeError:
                return {"passed": False, "missing": name}
        exec(compile(test, "<test>", "exec"), space)  # noqa: S102
    except Closed:
        raise
    except Unsendable as error:
        return {"passed": False, "unsendable": str(error)}
    except BaseException as error:  # noqa: BLE001  (a test may raise anything)
        fault = getattr(error, "fault", None)
        raised = None if fault or isinstance(error, AssertionError) else type(error).__name__
        return {"passed": False, **link.last, "fault": fault, "raised": raised}
    return {"passed": True}


def main() -> None:
    """Read a job from standard input, and report on standard output: a line on loading, and one a test."""
    report = os.fdopen(os.dup(1), "w", encoding="utf-8")
    channel = Channel(int(sys.argv[2]), int(sys.argv[3]))
    job = json.loads(sys.stdin.readline())
    seal(int(sys.argv[1]))
    for line in _lines(job, Link(channel), channel):
        report.write(json.dumps(line) + "\n")
        report.flush()


def _lines(job: dict[str, Any], link: Link, channel: Channel) -> Iterator[dict[str, Any]]:
    if channel.receive() != "ready":
        return
    yield {"ready": True}
    try:
        fault = link.load(job["program"], job["setup"])
        yield {"passed": fault is None, "fault": fault}
        if fault is None:
            for test, names in job["tests"]:
                yield judge(link, test, names, job["imports"])
    except Closed:
        yield {"passed": False, **link.last, "ended": True}
