from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.browser import chromium
from tests.evaluation.voting.test_ballots import Voting
from tests.serve.page.booths import KEY, Served, serving

pytestmark = pytest.mark.slow

BAD = "</pre><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"> über 🌳"
SIDES = "[...document.querySelectorAll('.sides .asis')].map((each) => each.textContent)"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser.new_page()


@pytest.fixture
def server(voting: Voting) -> Iterator[Served]:
    with serving(voting) as found:
        yield found


def judged(browser: Any, count: int) -> None:
    browser.locator("#count", has_text=f"{count} of ").wait_for()


def test_keys_vote_tie_note_skip_and_undo(browser: Any, server: Served, voting: Voting) -> None:
    browser.goto(server.url)
    judged(browser, 0)
    first = browser.evaluate(SIDES)
    browser.keyboard.press("n")
    browser.keyboard.insert_text("1 = ü 🌳")
    browser.keyboard.press("1")  # in the note, keys are text
    browser.keyboard.press("Escape")
    browser.keyboard.press("2")
    judged(browser, 1)
    [vote] = voting.votes()
    assert (vote.winner, vote.text, vote.judge) == ("2", "1 = ü 🌳1", "zoë")
    assert browser.evaluate(SIDES) != first
    assert browser.evaluate("document.getElementById('note').value") == ""
    browser.keyboard.press("u")
    judged(browser, 0)
    assert (browser.evaluate(SIDES), voting.votes()) == (first, [])
    assert browser.evaluate("document.getElementById('note').value") == "1 = ü 🌳1"
    browser.keyboard.press("s")
    browser.wait_for_function(f"() => {SIDES}[0] !== {first[0]!r} || {SIDES}[1] !== {first[1]!r}")
    for count in range(1, 7):
        browser.keyboard.press("=")
        judged(browser, count)
    assert "All pairs are judged" in browser.evaluate("document.body.innerText")
    assert [each.winner for each in voting.votes()] == ["tie"] * 6
    browser.keyboard.press("1")  # there is nothing to judge
    browser.keyboard.press("u")
    judged(browser, 5)


def test_a_double_click_is_one_vote(browser: Any, server: Served, voting: Voting) -> None:
    browser.goto(server.url)
    judged(browser, 0)
    browser.hover('[data-do="1"]')
    for count in (1, 2):
        browser.mouse.down(click_count=count)
        browser.mouse.up(click_count=count)
        judged(browser, 1)
    browser.keyboard.press("u")
    judged(browser, 0)
    assert voting.votes() == []
    browser.keyboard.press("u")
    browser.locator("#fault", has_text="You have no vote to undo.").wait_for()


def test_the_page_asks_for_a_name_and_keeps_it(browser: Any, voting: Voting) -> None:
    with serving(voting, "login", known=False) as server:
        browser.goto(server.url)
        browser.wait_for_selector("#who")
        assert browser.input_value("#name:focus") == "login"
        browser.fill("#name", "Béa 1")
        browser.keyboard.press("Enter")
        judged(browser, 0)
        browser.click('[data-do="1"]')
        judged(browser, 1)
        browser.reload()
        judged(browser, 1)
        assert {each.judge for each in voting.votes()} == {"Béa 1"}


def test_hostile_answers_stay_text(browser: Any, voting: Voting) -> None:
    voting.matches = [
        replace(
            each,
            question=replace(each.question, turns=(BAD,)),
            answers=tuple(replace(answer, turns=(BAD + answer.name,)) for answer in each.answers),
        )
        for each in voting.matches[:1]
    ]
    with serving(voting, BAD[:60]) as server:
        browser.goto(server.url)
        judged(browser, 0)
        assert sorted(browser.evaluate(SIDES)) == [f"{BAD}new-model", f"{BAD}old-model"]
        assert browser.evaluate("document.querySelector('.asked').textContent") == BAD
        assert browser.evaluate("document.querySelectorAll('img, #pair script').length") == 0
        # Markup that got in all the same could not run or load.
        script = "Object.assign(document.createElement('script'), {src: 'data:,document.title=2'})"
        assert "TrustedScriptURL" in browser.evaluate(
            f"try {{ document.body.append({script}) }} catch (e) {{ `${{e}}` }}"
        )
        fetched = browser.evaluate("fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'refused')")
        assert fetched == "refused"
        assert browser.evaluate("document.title") == "Which answer is better?"


def test_what_is_refused_is_said(browser: Any, server: Served) -> None:
    browser.goto(f"{server.root}#/vote/wrong")
    browser.locator("#fault", has_text="address is incomplete").wait_for()
    browser.goto("about:blank")  # another fragment alone loads nothing
    browser.goto(server.url)
    judged(browser, 0)
    assert KEY not in browser.evaluate("location.href")
