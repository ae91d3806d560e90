"""Format counts and sizes for people, and print messages and untrusted texts safely."""

import re
import sys

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""Line separators, bidirectional formatting characters, and control characters except tab and LF."""


def printable(text: str) -> str:
    """Replace characters that could control a terminal or a page."""
    return _CONTROL.sub("\ufffd", text.replace("\r\n", "\n"))


def tell(message: str, hint: str | None = None) -> None:
    """Print a message and a hint to standard error. Do nothing if standard error is closed."""
    if sys.stderr is None:  # `print` would write to standard output
        return
    lines = [f"redraft: {message}", *(f"  {line}" for line in (hint or "").splitlines())]
    print(printable("\n".join(lines)), file=sys.stderr, flush=True)


def begin_line() -> None:
    """Begin a new line on a terminal, after the ^C of Ctrl-C."""
    if sys.stderr is not None and sys.stderr.isatty():
        print(file=sys.stderr, flush=True)


def size_in_words(size: int) -> str:
    """Return a size in bytes with a decimal unit, such as 98 MB."""
    for unit, name in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= 0.9995 * unit:  # rounded to three digits, this is one unit
            return f"{size / unit:.3g} {name}"
    return f"{size} B"


def counted(count: int, noun: str) -> str:
    """Return a count and a noun, with a plural s if needed: `1 row`, `2,000 rows`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
