"""The page for votes: a fixed document that asks for its pairs and puts them into text nodes (`vote.js`).

Its style is that of reports. There is nothing of the answers in it. The server sends `policy_of` it, which
allows the page's own script and style, by their hashes, and requests to the server it came from. It needs no
template engine: redraft vote runs with the core dependencies.
"""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from html import escape
from importlib.resources import files
from string import Template

from redraft import __version__
from redraft.counting import printable
from redraft.evaluation.voting.ballots import LONGEST_NAME, LONGEST_NOTE


def page(voter: str, *, known: bool) -> str:
    """Return the page. It starts with this voter if the name is known, and else asks for it."""
    return Template(_part("evaluation", "voting", "page.html")).substitute(
        longest_name=LONGEST_NAME,
        longest_note=LONGEST_NOTE,
        voter=escape(printable(voter)),
        known=" data-known" if known else "",
        version=__version__,
        style=_part("pages", "page.css") + _part("evaluation", "voting", "vote.css"),
        script=_part("pages", "elements.js") + _part("evaluation", "voting", "vote.js"),
    )


def _part(*names: str) -> str:
    return files("redraft").joinpath(*names).read_text("utf-8")


def policy_of(html: str) -> str:
    """Return the policy to send with a page: its own scripts and styles, by hash, and nothing else's."""

    def hashes(tag: str) -> str:
        found = re.findall(f"<{tag}>(.*?)</{tag}>", html, re.S)
        return " ".join(f"'sha256-{b64encode(sha256(each.encode()).digest()).decode()}'" for each in found)

    return (
        f"default-src 'none'; script-src {hashes('script')}; style-src {hashes('style')}; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
