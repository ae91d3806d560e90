"""The page: whole, self-contained, and safe to open whatever the records say."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from redraft.collect.report.page import page
from redraft.collect.report.stats import describe

VOID = {"meta"}
OURS = """
    html head meta title style body header h1 p ul li b main section h2 div details summary
    code figure figcaption br svg text line g title rect dl dt dd i small span pre em footer
"""


class Reader(HTMLParser):
    """Checks that tags are ours and closed in order, and that no attribute runs or loads anything."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in OURS.split()
        self.seen.add(tag)
        for name, value in attrs:
            assert not name.startswith("on")
            assert name not in {"src", "href", "action"}
            assert "url(" not in (value or "")
        if tag not in VOID | {"br", "line", "rect"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


def page_of(path: Path, *records: object) -> str:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    return page(describe([path], len), "made so")


BAD = "<script>alert(1)</script></pre></style><img src=x onerror=alert(1)>"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(st.text(), st.sampled_from([BAD, "\x00\u202e", "'\"&<", ""]))
def test_no_text_of_a_record_becomes_markup(tmp_path: Path, text: str, bad: str) -> None:
    text = (text + bad).encode(errors="replace").decode()
    record = {
        "instruction": text,
        "output": text,
        "dataset": text,
        "outputs": [{"output": text, "feedback": text}, {"output": "b", "feedback": text}],
    }
    talk = {"messages": [{"role": text, "content": text}, {"role": "assistant", "content": text}]}
    html = page_of(tmp_path / "a.jsonl", record, talk, {text: 1})
    reader = read(html)
    assert "\x00" not in html
    assert "\u202e" not in html
    if bad == BAD:
        assert BAD in "".join(reader.text)


def test_a_file_may_be_called_anything(tmp_path: Path) -> None:
    reader = read(page_of(tmp_path / "<b onclick=x>.jsonl", {"prompt": "a"}))
    assert "<b onclick=x>.jsonl" in "".join(reader.text)


def test_all_parts_are_there_for_chains(shared_data: Path) -> None:
    report = describe([shared_data / "selfee" / "chains" / "conala.jsonl"], len, unit="characters")
    text = "".join(read(page(report, "redraft 1 · seed 0")).text)
    for part in (
        "conala.jsonl",
        "2,777",
        "gold answers",
        "162 feedbacks quoting the gold answer",
        "answers a record",
        "characters, feedback",
        "Feedback 5",
        "scores in last feedbacks",
        "characters by step",
        "revision 4",
        "languages",
        "Examples",
        "accepted at once · ",
        "corrected · ",
        "leaking · ",
        "without a verdict · ",
        "Samples",
        "redraft 1 · seed 0",
    ):
        assert part in text


def test_the_page_needs_nothing_else(shared_data: Path) -> None:
    html = page(describe([shared_data / "selfee" / "chains" / "mbpp.jsonl"], len), "")
    reader = read(html)
    assert "script" not in reader.seen
    assert "http" not in html.replace("http-equiv", "").split("<h2>Samples")[0]
    assert "default-src 'none'" in html
    assert "prefers-color-scheme: dark" in html


@pytest.mark.parametrize("records", [0, 1])
def test_of_little_or_nothing_there_is_a_page_too(tmp_path: Path, records: int) -> None:
    html = page_of(tmp_path / "a.jsonl", *[{"prompt": "Why?"}] * records)
    assert ("Distributions" in html) == bool(records)
    assert ("No records." in html) != bool(records)
    read(html)


def test_bars_add_up_and_stay_inside_the_drawing(shared_data: Path) -> None:
    html = page(describe([shared_data / "selfee" / "chains" / "mbpp.jsonl"], len), "")
    start = html.index("<svg viewBox", html.index("answers a record"))
    svg = ET.fromstring(html[start : html.index("</svg>", start) + 6])  # noqa: S314  (our own page)
    titles = [title.text or "" for title in svg.iter("title")]
    assert titles == ["1: 538", "2: 408", "3: 17", "4: 2", "5: 4"]
    _, _, width, height = map(float, svg.attrib["viewBox"].split())
    heights = [float(rect.attrib["height"]) for rect in svg.iter("rect")]
    assert heights == [*sorted(heights[:3], reverse=True), 1.5, 1.5]
    for rect in svg.iter("rect"):
        assert float(rect.attrib["x"]) + float(rect.attrib["width"]) <= width
        assert float(rect.attrib["y"]) + float(rect.attrib["height"]) <= height


def test_long_texts_and_long_chains_are_cut_with_a_word_on_it(tmp_path: Path) -> None:
    steps = [{"output": "y" * 5000, "feedback": "again"}] * 40
    html = page_of(tmp_path / "a.jsonl", {"instruction": "x" * 5000, "outputs": steps})
    assert "… 3,500 more characters" in html
    assert "… 30 more answers" in html
    assert len(html) < 60_000


def test_a_rationale_is_shown_and_wider_bars_are_told(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    answers = ["Two and two.\n#### 4", *["word " * 2**i for i in range(10)]]
    records = [{"question": "What is 2 + 2?", "answer": answer} for answer in answers]
    path.write_text("\n".join(map(json.dumps, records)), "utf-8")
    made = page(describe([path], lambda text: len(text.split()), samples=20), "")
    assert "<b>rationale</b>" in made
    assert "a bar has a wider range than those before it" in made
