"""The channel between the program and its tests: JSON lines that carry plain values; and limits on both.

Values are data, never code: a list of types is decoded, each by its own constructor, and nothing that a
program sends can name another. All other objects stay where they are and travel as numbers.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import sys
from collections.abc import Callable

TYPE_CHECKING = False  # importing typing would make each start slower
if TYPE_CHECKING:
    from typing import Any

    Keep = Callable[[Any], Any]

MAX_LINE = 8_000_000  # longest message, in bytes

MEMORY = 512 * 1024 * 1024  # most address space in bytes. It bounds threads too, which reserve 8 MB each.
FILES = 64  # most open files
DISK = 64 * 1024 * 1024  # most bytes in /tmp, and in a file
_TMP = b"size=%d,nr_inodes=10000" % DISK
_REMOUNT = 2 | 4 | 32  # nosuid, nodev, remount; from linux/mount.h
_CAPABILITIES = 0x20080522  # _LINUX_CAPABILITY_VERSION_3


def seal(seconds: int) -> None:
    """Limit this process to `seconds` of CPU time, memory and files, for good.

    Bubblewrap cannot limit the files in /tmp, so it leaves the one capability for that, which goes here. What
    is printed goes to a file without a name.
    """
    import resource  # only Unix has it, and others import this module

    printed = os.open("/tmp", os.O_TMPFILE | os.O_RDWR)  # noqa: S108  (a file system of its own)
    for number in (0, 1, 2):
        os.dup2(printed, number)
    os.close(printed)
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES, 0)
    if libc.mount(b"none", b"/tmp", None, _REMOUNT, _TMP) or libc.capset(header, (ctypes.c_uint32 * 6)()):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    for limit, most in (
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, DISK),
        (resource.RLIMIT_NOFILE, FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (most, most))
    sys.set_int_max_str_digits(0)


_ITEMS = (tuple, set, frozenset)
_SCALARS: dict[type, Callable[[Any], Any]] = {
    # The methods of the types themselves: subclasses of a program may override them.
    int: int.__int__,
    float: float.__float__,
    str: str.__str__,
    bytes: lambda value: {"bytes": bytes(value).hex()},
    bytearray: lambda value: {"bytearray": bytes(value).hex()},
    complex: lambda value: {"complex": [value.real, value.imag]},
    range: lambda value: {"range": [value.start, value.stop, value.step]},
}
_LIBRARY: dict[str, Callable[[Any], list[Any]]] = {
    "fractions.Fraction": lambda value: [value.numerator, value.denominator],
    "decimal.Decimal": lambda value: [str(value)],
    "collections.deque": lambda value: [list(value), value.maxlen],
    "collections.Counter": lambda value: [dict(value)],
    "collections.OrderedDict": lambda value: [list(value.items())],
    "collections.defaultdict": lambda value: [None, dict(value)],
    "datetime.timedelta": lambda value: [value.days, value.seconds, value.microseconds],
    "datetime.date": lambda value: [value.year, value.month, value.day],
    "datetime.time": lambda value: [value.hour, value.minute, value.second, value.microsecond],
    "datetime.datetime": lambda value: [
        *(value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond)
    ],
}
"""Types of the standard library, each with the arguments that make an equal value. Time zones are lost."""


class Closed(Exception):
    """The other side has ended, or has sent something that is no message."""


class Channel:
    """Messages over two pipes."""

    def __init__(self, source: int, sink: int) -> None:
        self._source, self._sink = os.fdopen(source, "rb"), os.fdopen(sink, "wb")

    def send(self, message: Any) -> None:
        """Send a message. ValueError: it is longer than `MAX_LINE`."""
        line = json.dumps(message).encode() + b"\n"
        if len(line) > MAX_LINE:
            raise ValueError("the value is too large")
        try:
            self._sink.write(line)
            self._sink.flush()
        except BrokenPipeError:
            raise Closed from None

    def receive(self) -> Any:
        """Wait for a message. Closed: there is none to come."""
        line = self._source.readline(MAX_LINE + 1)
        try:
            return json.loads(line)
        except (ValueError, RecursionError):
            raise Closed from None


def encode(value: Any, keep: Keep) -> Any:
    """Return a value as JSON; `keep` does so for an object that is not plain.

    An instance of a subclass, such as a named tuple, becomes its plain base.
    """
    if value is None or value is True or value is False:
        return value
    kind = type(value)
    if library := _LIBRARY.get(f"{kind.__module__}.{kind.__qualname__}"):
        return {f"{kind.__module__}.{kind.__qualname__}": encode(library(value), keep)}
    for base, scalar in _SCALARS.items():
        if isinstance(value, base):
            return scalar(value)
    if isinstance(value, list):
        return [encode(item, keep) for item in value]
    if isinstance(value, dict):
        return {"dict": [[encode(key, keep), encode(item, keep)] for key, item in value.items()]}
    for base in _ITEMS:
        if isinstance(value, base):
            return {base.__name__: [encode(item, keep) for item in value]}
    return keep(value)


def decode(data: Any, find: Callable[[Any], Any]) -> Any:
    """Return the value that `encode` was given; `find` returns an object. It may raise any error."""
    if isinstance(data, list):
        return [decode(item, find) for item in data]
    if not isinstance(data, dict):
        return data
    name, held = next(iter(data.items()))
    if name == "dict":
        return {decode(key, find): decode(item, find) for key, item in held}
    if name in _PLAIN:
        return _PLAIN[name](decode(held, find))
    if name in _LIBRARY:
        module, _, kind = name.rpartition(".")
        return getattr(importlib.import_module(module), kind)(*decode(held, find))
    return find(data)


_PLAIN: dict[str, Callable[[Any], Any]] = {
    "bytes": bytes.fromhex,
    "bytearray": bytearray.fromhex,
    "complex": lambda pair: complex(*pair),
    "range": lambda three: range(*three),
    **{base.__name__: base for base in _ITEMS},
}
