"""The page for votes: a fixed document that asks for its pairs and puts them into text nodes (`vote.js`).

Head and style are those of the report's page. Its policy allows its own script and style, by their hashes,
and requests to the server it came from. There is nothing of the answers in it.
"""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from importlib.resources import files

from redraft import __version__
from redraft.collect.report.charts import safe
from redraft.collect.report.page import document
from redraft.evaluation.voting.ballots import LONGEST_NAME, LONGEST_NOTE

_BODY = """<p id="fault" role="alert"></p>
<form id="who" hidden>
<label for="name">Your name</label>
<input id="name" maxlength="{name}" autocomplete="off" required value="{voter}"{known}>
<button>Start</button>
</form>
<section id="booth" hidden>
<div id="pair"></div>
<div id="bar">
<div class="votes" role="group" aria-label="Which answer is better?">
<button type="button" data-do="1"><kbd>1</kbd> Answer 1</button>
<button type="button" data-do="="><kbd>=</kbd> Tie</button>
<button type="button" data-do="2"><kbd>2</kbd> Answer 2</button>
</div>
<textarea id="note" rows="1" maxlength="{note}" placeholder="Note"
 aria-label="Note on this pair. Key n, and Escape to leave"></textarea>
<div class="more">
<button type="button" data-do="skip"><kbd>s</kbd> Skip</button>
<button type="button" data-do="undo"><kbd>u</kbd> Undo</button>
</div>
<p id="far"><progress id="progress" max="1" value="0" aria-label="Judged pairs"></progress>
<span id="count" role="status"></span>
<span class="keys"><kbd>n</kbd> note · <kbd>Esc</kbd> leaves it</span></p>
</div>
</section>
<noscript><p>Voting needs JavaScript, or the terminal: redraft vote --terminal</p></noscript>
"""


def page(voter: str, *, known: bool) -> str:
    """Return the page. It starts with this voter if the name is known, and else asks for it."""
    body = _BODY.format(
        name=LONGEST_NAME, note=LONGEST_NOTE, voter=safe(voter), known=" data-known" if known else ""
    )
    return document(
        "Which answer is better?",
        "",
        [body],
        f"redraft {__version__}",
        style=_part("page.css") + _part("voting/vote.css"),
        script=_part("elements.js") + _part("voting/vote.js"),
        connect=True,
    )


def _part(name: str) -> str:
    return files("redraft.evaluation").joinpath(name).read_text("utf-8")


def policy_of(html: str) -> str:
    """Return the policy to send with a page: its own scripts and styles, by hash, and nothing else's."""

    def hashes(tag: str) -> str:
        found = re.findall(f"<{tag}>(.*?)</{tag}>", html, re.S)
        return " ".join(f"'sha256-{b64encode(sha256(each.encode()).digest()).decode()}'" for each in found)

    return (
        f"default-src 'none'; script-src {hashes('script')}; style-src {hashes('style')}; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
