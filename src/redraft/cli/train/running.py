"""A verb of `redraft train`: from the words after it to a preview, an estimate or a result.

Flags are not declared to typer: recipes use the same names, and most belong to transformers
(`redraft.train.settings`). The work is that of `redraft.train.api`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from redraft.cli.shell import command_line, tell, write
from redraft.errors import UsageError
from redraft.machine import give_back_large, keep_few_kernels, use_large_pages
from redraft.train.processes import Say, leads, parting

if TYPE_CHECKING:
    from redraft.train.options import TrainVerb
    from redraft.train.settings import RunSettings


def run(name: str, words: list[str] | None) -> None:
    """Do what the words after a verb say."""
    from redraft.train.options import LARGE, VERBS

    use_large_pages()
    keep_few_kernels()
    give_back_large(LARGE)
    verb = VERBS[name]
    _check_data(verb, words or [])
    from redraft.jobs.signals import exit_status
    from redraft.train.api import train
    from redraft.train.settings import parse

    settings: Any = parse(words or [], verb)
    own = settings.own
    say: Say = (lambda _: None) if own.quiet or not leads() else tell
    if own.preview is not None or own.estimate:
        _look(verb, settings, say)
        return
    result = train(verb, settings, tell=tell, command=command_line())
    if result.message:
        say(result.message)
    if result.stopped_by is not None:
        raise typer.Exit(exit_status(result.stopped_by))


def _check_data(verb: TrainVerb, words: list[str]) -> None:
    """Refuse missing data by the words alone: to read all settings, torch is loaded, for seconds."""
    from redraft.formats.read.files import reading
    from redraft.options import options_of

    flags: dict[str, list[str]] = {}
    flag = ""  # of a recipe
    for word in words:
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            flag = name.replace("-", "_")
            flags.setdefault(flag, []).extend([value] if equals else [])
        else:
            flags.setdefault(flag, []).append(word)
    for path in (*flags.get("data_path", ()), *flags.get("eval_data_path", ())):
        with reading(Path(path)):
            Path(path).expanduser().stat()
    if flags.keys() <= {"output_dir", *options_of(verb.options)} - {"data_path"}:
        raise UsageError("there is no data to train on.", hint="--data_path FILE")


def _look(verb: TrainVerb, settings: RunSettings[Any], say: Say) -> None:
    from redraft.engines.hf.folders import folder_for
    from redraft.train.api import no_data

    for line in settings.remarks:
        say(line)
    if not settings.own.data_path:
        raise no_data()
    model = folder_for(settings.own.model_name_or_path, command=command_line())
    if settings.own.preview is not None and leads():
        from rich.console import Console

        from redraft.machine import cache_folder
        from redraft.train.api import stages_of
        from redraft.train.preview import preview

        console = Console(highlight=False)
        preview(settings, model, cache_folder() / "train", console, stages=stages_of(verb), say=say)
    if settings.own.estimate:
        with parting():
            _estimate(verb, settings, model, say)


def _estimate(verb: TrainVerb, settings: RunSettings[Any], model: str, say: Say) -> None:
    from tempfile import TemporaryDirectory

    from redraft.jobs.signals import exit_status
    from redraft.train.api import ready_for
    from redraft.train.estimate import estimate, thrown_away

    with TemporaryDirectory(prefix="redraft-") as folder:
        ready = ready_for(verb, thrown_away(settings, Path(folder)), model, tell=tell)
        for line in ready.lines():
            say(line)
        found = estimate(ready)
        if (stopped := ready.loop.stopped) is not None:
            raise typer.Exit(exit_status(stopped))
        if ready.args.should_save:
            for line in found.lines():
                write(line)
