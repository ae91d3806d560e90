"""Read the prompt: the argument of the command line, and the text that is piped in."""

from __future__ import annotations

import re
import select
import sys
from collections.abc import Sequence
from contextlib import suppress

from redraft.cli.shell import tell
from redraft.errors import UsageError

PIPE_SECONDS = 3.0  # seconds of silence after which a line says that redraft waits for the pipe


def one_text(words: Sequence[str], verb: str) -> str:
    """Return the prompt. Raise `UsageError` if it is several arguments, as without quotes."""
    if len(words) > 1:
        quoted = '"{}"'.format(re.sub(r'(["\\$`])', r"\\\1", " ".join(words)))
        hint = f"Put quotes around it: redraft {verb} {quoted}"
        raise UsageError(f"the prompt is {len(words)} arguments, and should be one.", hint=hint)
    return "".join(words)


def read_piped(*, beside: bool) -> str:
    """Return the text that is piped in; "" at a terminal. Bytes that are not UTF-8 become surrogates.

    `beside` is whether there is a prompt too. Then an open pipe may be there by chance, and a line says so.
    """
    if sys.stdin.isatty():
        return ""
    with suppress(OSError, ValueError):  # a test's standard input is no file
        if beside and not select.select([sys.stdin], [], [], PIPE_SECONDS)[0]:
            tell("waiting for the text that is piped in.", "If there is none: redraft ask … < /dev/null")
    text = sys.stdin.buffer.read().decode("utf-8", "surrogateescape")
    return text.replace("\r\n", "\n").strip("\n")
