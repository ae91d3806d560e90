"""Prompts from a file or from standard input, for verbs that read them twice."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redraft.errors import RedraftError, UsageError

STDIN = "standard input"  # the name of its copy, in messages and in the provenance record


@contextmanager
def prompts_file(prompts: Path) -> Iterator[tuple[Path, str]]:
    """Give the prompts as a file that can be read twice, and its name: standard input is copied."""
    if str(prompts) != "-":
        yield prompts, str(prompts)
        return
    import shutil
    import tempfile
    from codecs import BOM_UTF8

    from redraft.formats.read.files import open_input, reading

    if sys.stdin.isatty():
        raise UsageError("there are no prompts.", hint="redraft answer prompts.jsonl -o out.jsonl")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "stdin")
        with copy.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        try:
            with reading(copy), open_input(copy) as given:
                start = given.read(1 << 16).removeprefix(BOM_UTF8).lstrip()
            copy = copy.rename(copy.with_suffix(".jsonl" if start[:1] in (b"{", b"[", b'"') else ".txt"))
            yield copy, STDIN
        except RedraftError as error:
            error.message = error.message.replace(str(copy), STDIN)
            raise
