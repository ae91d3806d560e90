"""Fill the template of all reports: one self-contained HTML page, with a light and a dark theme.

The texts of records may be hostile, so all texts are escaped. The Content-Security-Policy forbids all
requests, and all scripts except redraft's scripts, which are listed by hash. Records to browse are JSON in a
block that is not executed, and `browse.js` puts the records into text nodes.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any

from redraft.errors import MissingExtra
from redraft.evaluation.tables import Part
from redraft.jobs.counting import printable

try:
    from jinja2 import Environment, FunctionLoader, StrictUndefined
    from markupsafe import Markup, escape
except ModuleNotFoundError as error:
    raise MissingExtra(f"writing an HTML page (with {error.name})", "eval") from None

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def render(title: str, below: str, parts: Sequence[Part], made: str) -> str:
    """Return a complete page, with `below` under the title and `made` in the footer."""
    scripts = ("elements.js", "diff.js", "browse.js") if any(part.records for part in parts) else ()
    texts = {"title": title, "below": below, "parts": parts, "made": made}
    return filled("page.html", ("page.css",), scripts, **texts)


def filled(name: str, styles: Sequence[str], scripts: Sequence[str], **texts: Any) -> str:
    """Render a template with inlined styles and scripts. The Content-Security-Policy blocks other scripts."""
    style, script = ("".join(map(asset, names)) for names in (styles, scripts))
    allowed = f"; script-src 'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'" * bool(script)
    texts |= {"style": Markup(style), "script": Markup(script), "policy": POLICY + allowed}
    page: str = _template(name).render(**texts)
    return page


def asset(name: str) -> str:
    """Return the text of a template, stylesheet or script."""
    return files("redraft.evaluation.pages").joinpath(name).read_text("utf-8")


@cache
def _template(name: str) -> Any:
    environment = Environment(
        loader=FunctionLoader(asset),
        autoescape=True,
        trim_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    environment.filters |= {"breakable": _breakable, "drawn": _drawn, "json": _json}
    return environment.get_template(name)


def _breakable(name: str) -> Markup:
    return Markup(str(escape(printable(name.strip()))).replace(":", ":<wbr>").replace("_", "_<wbr>"))


def _drawn(part: Part) -> Markup:
    return Markup(part.chart.replace("<svg", f'<svg aria-label="{escape(printable(part.title))}"', 1))


def _json(records: Any) -> Markup:
    return Markup(json.dumps(_printable(records), ensure_ascii=False).replace("<", "\\u003c"))


def _printable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _printable(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_printable(each) for each in value]
    return printable(value) if isinstance(value, str) else value
