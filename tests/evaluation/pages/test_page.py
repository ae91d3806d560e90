"""The template of all reports: whole, self-contained, and safe to open whatever its texts say."""

from __future__ import annotations

import base64
import hashlib
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("jinja2")

from redraft.evaluation.pages.page import render
from redraft.evaluation.tables import Part
from redraft.jobs.counting import printable
from tests.evaluation.pages.reading import BAD, read


def page_of(text: str) -> str:
    part = Part(
        title=text,
        note=text,
        verdict=text,
        tiles={text: text},
        notes=[text],
        lines=[(text, text, text, text), (f"  {text}", "", "", "")],
        facts=[(text, text)],
        chart="<svg></svg>",
        records=[{"question": text}],
        kinds={"won": text},
    )
    return render(text, text, [part], text)


@settings(max_examples=30)
@given(st.text(), st.sampled_from([BAD, "<!--<script>", "\x00\u202e\u2028", "'\"&<", ""]))
def test_no_text_becomes_markup_or_a_script(text: str, bad: str) -> None:
    text = (text + bad).encode(errors="replace").decode()
    html = page_of(text)
    reader = read(html)
    assert not {"\x00", "\u202e"} & {*html}
    [(_, records), _] = reader.scripts
    assert json.loads(records) == [{"question": printable(text)}]
    if bad == BAD:
        assert "".join(reader.text).count(BAD) == 18


def test_the_policy_allows_one_script_by_its_hash_and_no_request() -> None:
    html = page_of("x")
    reader = read(html)
    [script] = [text for named, text in reader.scripts if not named]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    allowed = dict(part.strip().split(" ", 1) for part in reader.policy.split(";"))
    assert allowed["default-src"] == "'none'"
    assert allowed["script-src"] == f"'sha256-{digest}'"
    assert allowed["base-uri"] == allowed["form-action"] == "'none'"
    assert not re.search(r"innerHTML|insertAdjacent|document\.write|eval\(|fetch\(|XMLHttp|import\(", script)
    assert "http" not in html.replace("http-equiv", "")


def test_without_records_there_is_no_script() -> None:
    html = render("Title", "", [Part("One", lines=[("keywords:letter_frequency", "", "", "")])], "made so")
    reader = read(html)
    assert reader.scripts == []
    assert "script-src" not in reader.policy
    assert "keywords:<wbr>letter_<wbr>frequency" in html
    assert "prefers-color-scheme: dark" in html
    assert html.count("<p>") == 0
