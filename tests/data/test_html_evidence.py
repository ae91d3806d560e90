"""Which texts are HTML: shared pages, but not markdown or code with tags."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from redraft.data.html_evidence import Evidence, has_tags

SHARED = '<div class="markdown prose w-full"><p>{}</p></div>'


def cleaned(asked: list[str], said: list[str]) -> tuple[list[str], list[str]]:
    evidence = Evidence.of(asked, said)
    if not evidence.pages:
        return asked, said
    questions = [evidence.convert("user", text) for text in asked]
    return questions, [evidence.convert("assistant", text) for text in said]


def test_a_shared_page_is_markdown_whatever_was_asked() -> None:
    asked, said = cleaned(["How do I write <div> in HTML?", "`a &lt; b`"], [SHARED.format("So."), "<p>x</p>"])
    assert said == ["So.", "x"]
    assert asked == ["How do I write <div> in HTML?", "`a &lt; b`"]


def test_what_people_typed_beside_pages() -> None:
    asked = ["Is 1 &lt; 2?", "<p>Is it?</p>", "std::vector<int> &amp; x", "#include <stdio.h>", "- a\n  - b"]
    found, _ = cleaned(asked, [SHARED.format("So.")])
    assert found == ["Is 1 < 2?", "Is it?", *asked[2:]]


@pytest.mark.parametrize(
    ("answer", "markdown"),
    [
        ("<p>It <b>is</b>.</p>", "It **is**."),
        ("<p>So:</p><pre><code>if x:\n    y = `z`</code></pre>", "So:\n\n```\nif x:\n    y = `z`\n```"),
        ("First this.<br>Then <i>that</i> &amp; more.", "First this.\nThen *that* & more."),
        ("<ul>\n<li>a</li>\n<li>b</li>\n</ul>", "- a\n- b"),
        ("<p>One.<p>Two.</p>", "One.\n\nTwo."),
        ("They are:<ul><li>a</li><li>b</li></ul>", "They are:\n\n- a\n- b"),
    ],
)
def test_html_without_the_marks_of_a_page(answer: str, markdown: str) -> None:
    assert cleaned(["Why?"], [answer, "Sure &gt; 1."])[1] == [markdown, "Sure > 1."]


@pytest.mark.parametrize(
    "answer",
    [
        "<html>\n<body>\n<p>x</p>\n</body>\n</html>",
        "<ul>\n  <li>a</li>\n</ul>", '"<br/>".join(f(x) for x in xs)', "Use **bold**: `<b>`",
        "- one<br>two\n- three", "| a<br>b | c |", "<div>{props.name}</div><MyPage/>", "#include <stdio.h>",
        "The <p> element and the <div> element differ.",
        "Write <p> tags to make paragraphs, and close with </p>.",
        "Use <b> and </b> around what is bold.",
        "A <br> begins a new line.",
        "<p> is for paragraphs, and <em> is not.",
    ],
)  # fmt: skip
def test_markdown_and_code_stay(answer: str) -> None:
    assert cleaned(["Show me."], [answer])[1] == [answer]


PROSE = "<p>Yes. It has <b>rained</b> for three days.</p><ul><li>a</li></ul>"


@pytest.mark.parametrize(
    "asked",
    [
        "Write a summary of this page.",
        "I need a tag line for our shop. Write a tag line!",
        "Which website sells good tea?",
        "The anchor of the ship broke.",
        "Where is the front end of a bus?",
    ],
)
def test_words_that_html_shares_with_other_things_do_not_make_prose_code(asked: str) -> None:
    assert cleaned([asked], [PROSE])[1] == ["Yes. It has **rained** for three days.\n\n- a"]
    assert cleaned([asked], ["<ul><li>a</li></ul>"])[1] == ["<ul><li>a</li></ul>"]


@pytest.mark.parametrize(
    "asked",
    [
        "Make a list in HTML.", "Fix <p>a",
        "Create a simple landing page about rain.",
        "Add a paragraph to the front of my page.",
        "Which tag is it?", "Wrap it in a paragraph tag.", "Generate the markup for a list.",
        "How do I do that in CSS?",
    ],
)  # fmt: skip
def test_prose_in_a_page_that_was_asked_for_is_code(asked: str) -> None:
    assert cleaned([asked], [PROSE])[1] == [PROSE]


def test_one_answer_that_is_not_html_makes_the_others_code() -> None:
    said = ["<p>x</p>", "So:\n\n```\ny\n```"]
    assert cleaned(["Why?"], said)[1] == said


def texts_of(value: object) -> list[str]:
    match value:
        case str():
            return [value]
        case list():
            return [text for each in value for text in texts_of(each)]
        case dict():
            return [text for each in value.values() for text in texts_of(each)]
    return []


def test_tasks_about_code_and_html_come_through_as_they_are(shared_data: Path) -> None:
    tasks = json.loads((shared_data / "code" / "code_alpaca_2k.json").read_text("utf-8"))
    assert sum("<" in text and "</" in text for task in tasks for text in texts_of(task)) > 100
    for task in tasks:
        asked, said = [task["instruction"], task["input"]], [task["output"]]
        assert cleaned(asked, said) == (asked, said)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("<p>It <b>is</b>.</p>", True),
        ("So:\n\n<ul><li>a</li></ul>\n\n- b", True),
        ("Close it with `</p>`.", False),
        ("So:\n\n```html\n<p>a</p>\n```\n\nThat is all.", False),
        ("So:\n\n```html\n<p>a</p>", False),
        ("vector<int> a; </x>", False),
    ],
)
def test_tags_that_are_left_in_a_text(text: str, left: bool) -> None:
    assert has_tags(text) is left
