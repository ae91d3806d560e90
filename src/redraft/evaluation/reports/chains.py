"""One page for chains: each as a timeline of its drafts, with feedback and changes.

The page has an index of all chains, and the chains themselves in compressed blocks. `chains.js` of `pages`
opens a block when a chain in it is shown or searched, so a hundred thousand chains open at once. Reports
write it beside their own page, and link to its chains by their names.
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
from redraft.jobs.counting import printable

BLOCK = 250  # chains that are compressed together: what has to be unpacked to show one
TITLE = 90  # characters of a prompt in the index
MOST_CHECKS = 30  # names of checks to choose by


class Listed(NamedTuple):
    """A chain with its unique name on the page, and the labels by which a reader may filter."""

    name: str
    chain: Chain
    kinds: Sequence[str] = ()


def entries(chains: Iterable[Chain]) -> Iterator[Listed]:
    """Yield chains under their ids. Repeated ids get numbers."""
    ids = Ids()
    return (Listed(ids.new(chain.id), chain) for chain in chains)


@dataclass(frozen=True)
class Links:
    """The links of a page to the chains' page beside it. By default there is no such page."""

    file: str = ""  # the name of the chains' page

    @classmethod
    def write(cls, page: Path, title: str, chains: Sequence[Listed], made: str, *, force: bool) -> Links:
        """Write the page of these chains beside `page`, if that is a file and there are any."""
        if not chains or str(page) == STDIO or (page.exists() and not page.is_file()):
            return cls()
        beside = page.with_name(f"{stem_of(page)}.chains.html")
        with open_output(beside, force=force, flag="--html") as file:
            file.write(chains_page(title, chains, made).encode())
        return cls(beside.name)

    def to(self, *name: str) -> str:
        """Return the link to a chain, whose name may have parts; without a name, to the page."""
        place = printable("/".join(name))
        return self.file and quote(self.file) + "#" * bool(name) + quote(place, safe="")


def chains_page(title: str, chains: Iterable[Listed], made: str) -> str:
    """Return the page. `made` says in the foot how it was made."""
    index: list[list[object]] = []
    blocks, kinds = [], Counter[str]()
    left = iter(chains)
    while block := list(islice(left, BLOCK)):
        # JSON escapes control characters, and no direction marks.
        records = printable(f"[{','.join(each.chain.to_json() for each in block)}]")
        blocks.append(b64encode(gzip.compress(records.encode(), 6, mtime=0)).decode())
        for name, chain, more in block:
            rights = _rights(chain)
            own = [*more, *kinds_of(chain, rights)]
            kinds.update(own)
            right = None if chain.best is None else rights[chain.best]
            known = -1 if right is None else int(right)
            index.append([name, title_of(chain), known, len(chain.steps), own])
    checks = Counter({name: count for name, count in kinds.items() if name.startswith("failed ")})
    offered = [*(kinds - checks).most_common(), *checks.most_common(MOST_CHECKS)]
    return filled(
        "chains.html",
        ("page.css", "chains.css"),
        ("elements.js", "diff.js", "chains.js"),
        title=title,
        below=f"{len(index):,} chains",
        kinds=[(name, f"{count:,}") for name, count in offered],
        index=index,
        blocks=blocks,
        size=BLOCK,
        made=made,
    )


def kinds_of(chain: Chain, rights: Sequence[bool | None]) -> Iterator[str]:
    """Yield the labels of a chain whose answers are right as `rights` says: repaired, broken, failed."""
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


def _rights(chain: Chain) -> list[bool | None]:
    with suppress(RecordError):
        if len(rights := [*rights_of(chain)]) == len(chain.steps):
            return rights
    return [step.passed for step in chain.steps]


def title_of(chain: Chain) -> str:
    """Return the beginning of a chain's prompt, on one line."""
    text = " ".join(chain.prompt.text[: 4 * TITLE].split())
    return text if len(text) <= TITLE else f"{text[: TITLE - 1]}…"
