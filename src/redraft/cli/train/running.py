"""A verb of `redraft train`: from the words after it to a preview, an estimate or a result.

Flags are not declared to typer: recipes use the same names, and a flag takes the words that follow it
(`redraft.train.settings`). The work is that of `redraft.train.api`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from redraft.cli.shell import command_line, tell, write
from redraft.errors import UsageError
from redraft.jobs.machine import give_back_large, keep_few_kernels, use_large_pages
from redraft.train.processes import Say, leads, parting

if TYPE_CHECKING:
    from redraft.train.options import RunOptions


def run(name: str, words: list[str] | None) -> None:
    """Do what the words after a verb say."""
    from redraft.train.options import LARGE, VERBS
    from redraft.train.settings import parse

    use_large_pages()
    keep_few_kernels()
    give_back_large(LARGE)
    own = parse(words or [], VERBS[name])
    _check_data(own)
    say: Say = (lambda _: None) if own.quiet or not leads() else tell
    if own.preview is not None or own.estimate:
        _look(own, say)
        return
    from redraft.jobs.signals import exit_status
    from redraft.train.api import train

    result = train(own, tell=tell, command=command_line())
    if result.message:
        say(result.message)
    if result.stopped_by is not None:
        raise typer.Exit(exit_status(result.stopped_by))


def _check_data(own: RunOptions) -> None:
    """Refuse missing data before torch is loaded, which takes seconds."""
    from redraft.chain.read.files import reading

    if not own.data_path:
        raise UsageError("there is no data to train on.", hint="--data_path FILE")
    for path in (*own.data_path, *vars(own).get("eval_data_path", ())):
        with reading(Path(path)):
            Path(path).stat()


def _look(own: RunOptions, say: Say) -> None:
    from redraft.engines.hf.folders import folder_for

    model = folder_for(own.model_name_or_path, command=command_line())
    if own.preview is not None and leads():
        from rich.console import Console

        from redraft.jobs.machine import cache_folder
        from redraft.train.preview import preview

        preview(own, model, cache_folder() / "train", Console(highlight=False), say=say)
    if own.estimate:
        with parting():
            _estimate(own, model, say)


def _estimate(own: RunOptions, model: str, say: Say) -> None:
    from tempfile import TemporaryDirectory

    from redraft.jobs.signals import exit_status
    from redraft.train.api import ready_for
    from redraft.train.estimate import estimate, thrown_away

    with TemporaryDirectory(prefix="redraft-") as folder:
        ready = ready_for(thrown_away(own, Path(folder)), model, tell=tell)
        for line in ready.lines():
            say(line)
        found = estimate(ready)
        if (stopped := ready.loop.stopped) is not None:
            raise typer.Exit(exit_status(stopped))
        for line in found.lines(own.price_per_hour) if found else ():
            write(line)
