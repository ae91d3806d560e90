"""Write a page that shows each chain as a timeline of drafts, with feedback and changes.

The page contains an index of all chains, and the chains in compressed blocks. `chains.js` of `pages` unpacks
a block only to show or search a chain, so even a page of 100,000 chains opens at once. A report's page links
to the chains by name.
"""

from __future__ import annotations

import gzip
from base64 import b64encode
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from redraft.chain import Chain
from redraft.chain.read.files import STDIO, open_output, stem_of
from redraft.chain.read.records import Ids
from redraft.errors import RecordError
from redraft.evaluation.pages.page import filled
from redraft.evaluation.tasks.tally import rights_of
from redraft.evaluation.tasks.tasks import KEY
from redraft.jobs.counting import counted, printable

BLOCK = 250  # chains that are compressed together: all must be unpacked to show one
TITLE = 90  # characters of a prompt in the index
MOST_CHECKS = 30  # most checks to filter by


class Listed(NamedTuple):
    """A chain with a unique name on the page, and labels to filter by."""

    name: str
    chain: Chain
    kinds: Sequence[str] = ()


def entries(chains: Iterable[Chain]) -> Iterator[Listed]:
    """Name chains by id. Repeated ids get numbers."""
    ids = Ids()
    return (Listed(ids.new(chain.id), chain) for chain in chains)


@dataclass(frozen=True)
class Links:
    """The links from a report's page to the page of the report's chains."""

    file: str = ""  # the file name of the chains' page; empty if there is none

    @classmethod
    def write(cls, page: Path, title: str, chains: Sequence[Listed], made: str, *, force: bool) -> Links:
        """Write a page of the chains beside `page`, unless there are no chains or `page` is a stream."""
        if not chains or str(page) == STDIO or (page.exists() and not page.is_file()):
            return cls()
        beside = page.with_name(f"{stem_of(page)}.chains.html")
        with open_output(beside, force=force, flag="--html") as file:
            file.write(chains_page(title, chains, made).encode())
        return cls(beside.name)

    def to(self, *name: str) -> str:
        """Return the link to the chain `"/".join(name)` or, without a name, to the page."""
        place = printable("/".join(name))
        return self.file and quote(self.file) + "#" * bool(name) + quote(place, safe="")


def chains_page(title: str, chains: Iterable[Listed], made: str) -> str:
    """Return the page as HTML. `made`, the text in the footer, says how the page was made."""
    index: list[list[object]] = []
    blocks, kinds = [], Counter[str]()
    left = iter(chains)
    while block := list(islice(left, BLOCK)):
        # JSON escapes control characters, but not direction marks.
        records = printable(f"[{','.join(each.chain.to_json() for each in block)}]")
        blocks.append(b64encode(gzip.compress(records.encode(), 6, mtime=0)).decode())
        for name, chain, more in block:
            rights = [step.passed for step in chain.steps]
            with suppress(RecordError):
                told = [*rights_of(chain)]
                rights = told if len(told) == len(rights) else rights
            own = [*more, *kinds_of(chain, rights)]
            kinds.update(own)
            right = None if chain.best is None else rights[chain.best]
            known = -1 if right is None else 2 if right and KEY not in chain.meta else int(right)
            text = " ".join(chain.prompt.text[: 4 * TITLE].split())
            text = text if len(text) <= TITLE else f"{text[: TITLE - 1]}…"
            index.append([name, text, known, len(chain.steps), own])
    checks = Counter({name: count for name, count in kinds.items() if name.startswith("failed ")})
    offered = [*(kinds - checks).most_common(), *checks.most_common(MOST_CHECKS)]
    return filled(
        "chains.html",
        ("page.css", "chains.css"),
        ("elements.js", "diff.js", "chains.js"),
        title=title,
        below=counted(len(index), "chain"),
        kinds=[(name, f"{count:,}") for name, count in offered],
        index=index,
        blocks=blocks,
        size=BLOCK,
        made=made,
    )


def kinds_of(chain: Chain, rights: Sequence[bool | None]) -> Iterator[str]:
    """Yield a chain's labels, such as `repaired`. `rights` tells which answers are right (None: unknown)."""
    best = None if chain.best is None else chain.steps[chain.best]
    right = None if chain.best is None else rights[chain.best]
    if rights[:1] == [False] and right:
        yield "repaired"
    if any(one and other is False for one, other in pairwise(rights)):
        yield "broken by a revision"
    if right is False:
        yield "fails"
    if any(step.echo for step in chain.steps):
        yield "echo"
    if best is None or not best.complete:
        yield "no whole answer"
    yield from dict.fromkeys(
        f"failed {check.name}" for step in chain.steps for check in step.checks if not check.passed
    )
