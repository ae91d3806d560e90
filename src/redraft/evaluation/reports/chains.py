"""One page for the chains of a file: each as a timeline of its drafts, with feedback and changes.

The page has an index of all chains, and the chains themselves in compressed blocks. `chains.js` of `pages`
opens them when one is looked at or searched, so a hundred thousand chains open at once.
"""

from __future__ import annotations

import gzip
from base64 import b64encode
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, pairwise

from redraft.chain import Chain, Step
from redraft.counting import printable
from redraft.pages.page import filled

BLOCK = 250  # chains that are compressed together: what has to be unpacked to show one
TITLE = 90  # characters of a prompt in the index
MOST_CHECKS = 30  # names of checks to choose by


def chains_page(title: str, chains: Iterable[Chain], made: str) -> str:
    """Return the page. `made` says in the foot how it was made."""
    index: list[list[object]] = []
    blocks, kinds = [], Counter[str]()
    left = iter(chains)
    while block := list(islice(left, BLOCK)):
        blocks.append(_packed(block))
        for chain in block:
            own = list(kinds_of(chain))
            kinds.update(own)
            index.append([chain.id, _title(chain), _verdict(chain), len(chain.steps), own])
    return filled(
        "chains.html",
        ("page.css", "chains.css"),
        ("elements.js", "diff.js", "chains.js"),
        title=title,
        below=f"{len(index):,} chains",
        kinds=[(name, f"{count:,}") for name, count in _offered(kinds)],
        index=index,
        blocks=blocks,
        size=BLOCK,
        made=made,
    )


def kinds_of(chain: Chain) -> Iterator[str]:
    """Yield what a reader may look for: whether it was repaired or broken, and the checks that it failed."""
    steps, best = chain.steps, _best(chain)
    if len(steps) > 1 and steps[0].passed is False and best is not None and best.passed:
        yield "repaired"
    if any(one.passed and other.passed is False for one, other in pairwise(steps)):
        yield "broken by a revision"
    if best is not None and best.passed is False:
        yield "fails"
    if any(step.echo for step in steps):
        yield "echo"
    if best is None or not best.complete:
        yield "no whole answer"
    yield from dict.fromkeys(
        f"failed {check.name}" for step in steps for check in step.checks if not check.passed
    )


def _offered(kinds: Counter[str]) -> list[tuple[str, int]]:
    checks = Counter({name: count for name, count in kinds.items() if name.startswith("failed ")})
    return [*((kinds - checks).most_common()), *checks.most_common(MOST_CHECKS)]


def _best(chain: Chain) -> Step | None:
    return None if chain.best is None else chain.steps[chain.best]


def _title(chain: Chain) -> str:
    text = " ".join(chain.prompt.text[: 4 * TITLE].split())
    return text if len(text) <= TITLE else f"{text[: TITLE - 1]}…"


def _verdict(chain: Chain) -> int:
    """Return 1 if the answer passes its checks, 0 if not, and -1 if nothing judged it."""
    best = _best(chain)
    return -1 if best is None or best.passed is None else int(best.passed)


def _packed(chains: Sequence[Chain]) -> str:
    # JSON escapes control characters, and no direction marks.
    records = printable(f"[{','.join(chain.to_json() for chain in chains)}]")
    return b64encode(gzip.compress(records.encode(), 6, mtime=0)).decode()
