"""`redraft train watch`: a page that shows a run while it goes on."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import MutableSequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from redraft.cli.shell import tell

if TYPE_CHECKING:
    from redraft.jobs.follow import Tail

EVERY = 5  # seconds between two looks at a run, and after which a browser loads the page again
KEPT = 1_000  # the last answers of the policy, which are on the page of chains


def watch(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The --output_dir of a run.")],
) -> None:
    """Write a page that shows a run while it goes on.

    DIR.watch.html has charts of loss, rewards, KL and other numbers of log.jsonl, of any kind of run. Until
    the run has ended, it is written again when there is news, and the browser loads it again every 5 seconds.
    Of ppo it lists the best and the worst answers of the last rollout batch, with links to the last 1,000
    answers on DIR.watch.chains.html.
    """
    from redraft.jobs.follow import Tail, how_it_ended
    from redraft.jobs.provenance import RunFile
    from redraft.train import LOG, SAMPLES

    record = RunFile(folder)
    page = record.path.with_name(f"{record.path.name.removesuffix('.run.json')}.watch.html")
    tell(f"{page} shows the run. Ctrl-C ends the page, and not the run.")
    lines, answers = list[bytes](), deque[bytes](maxlen=KEPT)
    files = (lines, Tail(folder / LOG, tell)), (answers, Tail(folder / SAMPLES, lambda _: None))
    while True:
        about = record.read()
        end = how_it_ended(about)
        news = [_add(*each) for each in files]
        if any(news) or end:
            steps = (about or {}).get("config", {}).get("steps") or 0
            _write(page, lines, answers, steps, end)
        if end:
            tell(end)
            return
        time.sleep(EVERY)


def _add(kept: MutableSequence[bytes], tail: Tail) -> bool:
    """Add the new lines of a file, and return whether there are any. One that was replaced begins again."""
    found = False
    for number, line in tail.new():
        if not number:
            kept.clear()
        kept.append(line)
        found = True
    return found


def _write(
    page: Path, lines: MutableSequence[bytes], answers: MutableSequence[bytes], steps: int, end: str | None
) -> None:
    from redraft import __version__
    from redraft.evaluation.reports.chains import Links, Listed
    from redraft.formats.read.files import open_output
    from redraft.formats.read.records import RawRecord
    from redraft.jobs.lines import parse_line
    from redraft.train import SAMPLES
    from redraft.train.page import page_of, place_of

    rows = [row for line in lines if (row := parse_line(line))]
    chains = [RawRecord(SAMPLES, "samples", number, line).chain() for number, line in enumerate(answers)]
    listed = [Listed("/".join(place_of(chain)), chain) for chain in chains]
    title, every = f"{page.name.removesuffix('.watch.html')}: training", EVERY * (end is None)
    links = Links.write(page, f"{title}, answers", listed, f"redraft {__version__}", force=True)
    last = [
        (chain, links.to(name)) for name, chain, _ in listed if place_of(chain)[0] == place_of(chains[-1])[0]
    ]
    state = end[:1].upper() + end[1:] if end else "The run goes on."
    with open_output(page, force=True) as file:
        file.write(page_of(title, rows, last, state, steps=steps, every=every).encode())
