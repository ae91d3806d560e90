"""The page of chains: safe whatever they say, and a browser finds, filters and compares what is in it."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("jinja2")
pytest.importorskip("vl_convert")

from redraft.chain import Chain, Prompt, Step
from redraft.evaluation.reports.chains import BLOCK, Links, chains_page, entries, kinds_of
from redraft.evaluation.reports.report import chains_of, describe, page
from redraft.evaluation.tasks.tally import rights_of
from redraft.jobs.counting import printable
from tests.browser import chromium
from tests.evaluation.diagnosis.made_chains import step
from tests.evaluation.pages.reading import BAD, read
from tests.serve.page.test_axe import found


def chain(name: str, prompt: str, *steps: Step, best: int | None = 0) -> Chain:
    return Chain(id=name, prompt=Prompt(instruction=prompt), steps=steps, best=best, stop="passed")


REPAIRED = chain(
    "q/1", "Describe rain.", step("It is very wet.", guide="0"), step("It is wet.", guide="1"), best=1
)
BROKEN = chain("q/2", "Describe snow.", step("It is cold.", guide="1"), step("It is not hot.", guide="0"))
TALK = chain("q/3", "Describe wind.", step("Here is my answer:", echo=True))


@settings(max_examples=30)
@given(st.text(), st.sampled_from([BAD, "<!--<script>", "\x00\u202e\u2028", "'\"&<", ""]))
def test_no_text_becomes_markup_or_a_script(text: str, bad: str) -> None:
    text = (text + bad).encode(errors="replace").decode()
    html = chains_page(text, entries([chain(text, text, step(text, guide="0"))]), text)
    assert not {"\x00", "\u202e"} & {*html}
    [(_, index), (_, block), _] = read(html).scripts
    assert json.loads(index)[0][0] == printable(text)
    [record] = json.loads(gzip.decompress(base64.b64decode(block)))
    assert printable(record["steps"][0]["answer"]) == printable(text)
    assert "\u202e" not in record["steps"][0]["answer"]


def test_what_a_reader_may_look_for() -> None:
    empty = chain("q/4", "Describe hail.", best=None)
    assert [[*kinds_of(each, [*rights_of(each)])] for each in (REPAIRED, BROKEN, TALK, empty)] == [
        ["repaired", "failed words<=9"],
        ["broken by a revision", "failed words<=9"],
        ["fails", "echo"],
        ["no whole answer"],
    ]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser.new_page()


def opened(browser: Any, path: Path, *chains: Chain, at: str = "") -> None:
    path.write_text(chains_page("out.jsonl", entries(chains), "redraft"), "utf-8")
    browser.goto(f"file://{path}{at}")
    browser.wait_for_function("document.querySelector('#chain').innerText")


def shows(browser: Any, text: str) -> None:
    browser.wait_for_function(f"document.querySelector('#chain').innerText.includes({json.dumps(text)})")


def test_a_chain_is_a_timeline_with_changes(browser: Any, tmp_path: Path) -> None:
    opened(browser, tmp_path / "a.html", REPAIRED, BROKEN, TALK)
    shows(browser, "Describe rain.")
    shows(browser, "✗ m")
    shows(browser, "✓ m, at most 9 · the answer")
    font = "getComputedStyle(document.querySelector('.answer pre')).fontFamily"
    assert "mono" not in browser.evaluate(font)  # a text is read as one
    assert "✓ its checks" in browser.locator(".row").first.inner_text()  # they do not say that it is right
    assert not browser.locator(".row.won, .answer.accept").count()
    assert browser.evaluate("document.querySelector('#chain del').innerText.trim()") == "very"
    browser.keyboard.press("d")
    browser.wait_for_function("!document.querySelector('#chain del')")
    cut = step("It is wet.", "r", finish="max_tokens"), step("It is", finish="max_tokens")
    opened(browser, tmp_path / "e.html", chain("q/6", "Describe fog.", *cut))
    assert browser.inner_text("#chain").count("✗ cut") == 1, "the feedback was cut, and the other answer"


def test_the_calls_of_tools_are_shown_with_what_changed(browser: Any, tmp_path: Path) -> None:
    calls = [({"function": {"name": "pay", "arguments": f'{{"amount": {n}}}'}},) for n in (450, 45)]
    steps = [
        step("", guide=mark).model_copy(update={"tool_calls": made})
        for mark, made in zip("01", calls, strict=True)
    ]
    odd = [
        {"role": "assistant", "tool_calls": calls} for calls in ([None], "abc", {"a": 1}, [{"function": {}}])
    ]
    asked = Prompt(messages=(*odd, {"role": "user", "content": "Pay 45."}))
    paid = chain("q/5", "", *steps, best=1).model_copy(update={"prompt": asked})
    opened(browser, tmp_path / "d.html", paid)
    shows(browser, 'pay({"amount": 450})')
    assert browser.evaluate("document.querySelector('#chain del').innerText.trim()") == "450"


def test_chains_are_filtered_searched_and_walked_through(browser: Any, tmp_path: Path) -> None:
    opened(browser, tmp_path / "b.html", REPAIRED, BROKEN, TALK)
    browser.select_option("#only", "echo")
    shows(browser, "Describe wind.")
    assert browser.evaluate("document.querySelector('#count').innerText") == "1 of 3"
    browser.select_option("#only", "")
    browser.locator("#list").focus()
    browser.keyboard.press("/")
    browser.keyboard.insert_text("not HOT")
    shows(browser, "Describe snow.")
    browser.keyboard.press("Escape")
    browser.locator("#count", has_text="3 of 3").wait_for()  # the box is empty
    browser.keyboard.press("j")
    shows(browser, "Describe wind.")
    assert browser.evaluate("location.hash") == "#q%2F3"


def test_a_link_opens_its_chain_among_many_and_hostile_texts_run_nothing(
    browser: Any, tmp_path: Path
) -> None:
    many = (chain(f"q/{n}", f"Question {n}? {BAD}", step(BAD, guide="0")) for n in range(3 * BLOCK))
    opened(browser, tmp_path / "c.html", *many, at=f"#q%2F{2 * BLOCK + 7}")
    shows(browser, f"Question {2 * BLOCK + 7}?")
    assert browser.evaluate("document.title") == "out.jsonl"
    assert browser.evaluate("document.querySelectorAll('.row').length") < 60
    row = browser.evaluate("document.querySelector('[aria-selected=true]').innerText")
    assert row.startswith(f"✗ Question {2 * BLOCK + 7}?")


def test_a_report_links_each_answer_to_its_chain(browser: Any, tmp_path: Path) -> None:
    for run, chains in (("old", [BROKEN, TALK]), ("new", [REPAIRED, BROKEN])):
        (tmp_path / f"{run}.jsonl").write_text("".join(f"{each.to_json()}\n" for each in chains))
    report = describe([tmp_path / "old.jsonl", tmp_path / "new.jsonl"])
    path = tmp_path / "all 100%.html"
    links = Links.write(path, "Chains", [*chains_of(report)], "redraft", force=False)
    path.write_text(page(report, "redraft", links), "utf-8")
    browser.goto(f"file://{quote(str(path))}#pair-1")
    assert browser.evaluate("document.querySelectorAll('#pair a').length") == 2
    browser.set_viewport_size({"width": 700, "height": 900})
    browser.emulate_media(media="print", color_scheme="dark")
    style = "getComputedStyle(document.querySelector('tr'))"
    printed = browser.evaluate(f"(a => [a.printColorAdjust, a.color, a.display])({style})")
    assert printed == ["exact", "rgb(32, 34, 38)", "table-row"]
    browser.emulate_media(media="screen")
    with (
        browser.expect_navigation()
    ):  # the policy of the page being left forbids to wait for a value of the next
        browser.evaluate("document.querySelectorAll('#pair a')[1].click()")
    shows(browser, "new/q/2")
    shows(browser, "Describe snow.")
    assert found(browser) == []
