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

from redraft.evaluation.pages.page import asset, render
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
    assert (allowed["default-src"], allowed["script-src"]) == ("'none'", f"'sha256-{digest}'")
    assert allowed["base-uri"] == allowed["form-action"] == "'none'"
    assert not re.search(r"innerHTML|insertAdjacent|document\.write|eval\(|fetch\(|XMLHttp|import\(", script)
    assert "http" not in html.replace("http-equiv", "")


def luminance(colour: str) -> float:
    parts = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    linear = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return sum(share * part for share, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_every_line_and_text_stands_out_from_its_card_in_light_and_dark() -> None:
    """By WCAG 2.2 lines need a contrast of 3, and texts 4.5."""
    blocks = re.findall(r":root \{(.*?)\}", asset("page.css"), re.DOTALL)[:3]
    light, dark, both = (dict(re.findall(r"--(\w+): ([^;]+);", block)) for block in blocks)
    for theme in (light, light | dark):
        values = {name: theme.get(value[6:-1], value) for name, value in (theme | both).items()}
        card = luminance(values["card"])
        for name in ("ink", "soft", "won", "tied", "lost", *(f"s{n}" for n in range(8))):
            low, high = sorted((luminance(values[name]), card))
            assert (high + 0.05) / (low + 0.05) >= (4.5 if name in ("ink", "soft") else 3), name


def test_without_records_there_is_no_script() -> None:
    html = render("Title", "", [Part("One", lines=[("keywords:letter_frequency", "", "", "")])], "made so")
    reader = read(html)
    assert reader.scripts == []
    assert "script-src" not in reader.policy
    assert "keywords:<wbr>letter_<wbr>frequency" in html
    assert "prefers-color-scheme: dark" in html
    assert html.count("<p>") == 0
