"""`redraft doctor`: show what is installed, what works, and what to type. Nothing is changed.

The output is plain lines, not a table, so that long paths and commands stay whole.
"""

from __future__ import annotations

import typer

from redraft.cli.shell import write

_MARKS = {True: "ok", None: "-", False: "bad"}


def doctor() -> None:
    """Show what is installed, what works, and what to type.

    Looks at this machine only: no server is asked, and no key is shown. Exit status 2 if a line says bad.
    """
    from redraft.engines.installation import findings
    from redraft.engines.load import has_llamacpp

    broken = False
    for finding in findings():
        broken |= finding.well is False
        write(f"{_MARKS[finding.well]:<3} {finding.what:<14} {finding.found}")
        if finding.type_next:
            write(f"{'':<18} > {finding.type_next}")
    more = "--check 'words<=30'" if has_llamacpp() else "--model http://localhost:8000/v1#model"
    write(f'\nStart with: redraft ask "Describe a lighthouse." {more}')
    raise typer.Exit(2 * broken)
