"""The page of `redraft vote` in a real browser: keys, every width, and hostile answers that stay text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.browser import Browser, browsed
from tests.evaluation.voting.test_ballots import Voting
from tests.serve.page.booths import KEY, Served, serving

pytestmark = pytest.mark.slow

BAD = "</pre><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"> über 🌳"
SIDES = "[...document.querySelectorAll('.sides .asis')].map((each) => each.textContent)"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsed() as found:
        yield found


@pytest.fixture
def server(voting: Voting) -> Iterator[Served]:
    with serving(voting) as found:
        yield found


def judged(browser: Browser, count: int) -> None:
    """Wait until so many pairs are judged."""
    browser.until(f"document.getElementById('count')?.textContent.startsWith('{count} of ')")


def test_keys_vote_tie_note_skip_and_undo(browser: Browser, server: Served, voting: Voting) -> None:
    browser.open(server.url)
    judged(browser, 0)
    first = browser.js(SIDES)
    browser.press("n")
    browser.page.keyboard.insert_text("1 = ü 🌳")
    browser.press("1")  # in the note, keys are text
    browser.press("Escape")
    browser.press("2")
    judged(browser, 1)
    [vote] = voting.votes()
    assert (vote.winner, vote.text, vote.judge) == ("2", "1 = ü 🌳1", "zoë")
    assert browser.js(SIDES) != first
    assert browser.js("document.getElementById('note').value") == ""
    browser.press("u")
    judged(browser, 0)
    assert (browser.js(SIDES), voting.votes()) == (first, [])
    assert browser.js("document.getElementById('note').value") == "1 = ü 🌳1"
    browser.press("s")
    browser.until(f"{SIDES}[0] !== {first[0]!r} || {SIDES}[1] !== {first[1]!r}")
    for count in range(1, 7):
        browser.press("=")
        judged(browser, count)
    assert "All pairs are judged" in browser.js("document.body.innerText")
    assert [each.winner for each in voting.votes()] == ["tie"] * 6
    browser.press("1")  # there is nothing to judge
    browser.press("u")
    judged(browser, 5)


def test_a_double_click_is_one_vote(browser: Browser, server: Served, voting: Voting) -> None:
    browser.open(server.url)
    judged(browser, 0)
    browser.page.hover('[data-do="1"]')
    for count in (1, 2):
        browser.page.mouse.down(click_count=count)
        browser.page.mouse.up(click_count=count)
        judged(browser, 1)
    browser.press("u")
    judged(browser, 0)
    assert voting.votes() == []
    browser.press("u")
    browser.until("document.getElementById('fault')?.textContent === 'You have no vote to undo.'")


def test_the_page_asks_for_a_name_and_keeps_it(browser: Browser, voting: Voting) -> None:
    with serving(voting, "login", known=False) as server:
        browser.open(server.url)
        browser.until("document.getElementById('who')")
        assert browser.js("document.getElementById('name').value") == "login"
        assert browser.js("document.activeElement.id") == "name"
        browser.js("document.getElementById('name').select()")
        browser.page.keyboard.insert_text("Béa 1")
        browser.press("Enter")
        judged(browser, 0)
        browser.js("document.querySelector('[data-do=\"1\"]').click()")
        judged(browser, 1)
        browser.page.reload()
        judged(browser, 1)
        assert {each.judge for each in voting.votes()} == {"Béa 1"}


def test_hostile_answers_stay_text(browser: Browser, voting: Voting) -> None:
    voting.matches = [
        replace(
            each,
            question=replace(each.question, turns=(BAD,)),
            answers=tuple(replace(answer, turns=(BAD + answer.name,)) for answer in each.answers),
        )
        for each in voting.matches[:1]
    ]
    with serving(voting, BAD[:60]) as server:
        browser.open(server.url)
        judged(browser, 0)
        assert sorted(browser.js(SIDES)) == [f"{BAD}new-model", f"{BAD}old-model"]
        assert browser.js("document.querySelector('.asked').textContent") == BAD
        assert browser.js("document.querySelectorAll('img, #pair script').length") == 0
        # Markup that got in all the same could not run or load.
        script = "Object.assign(document.createElement('script'), {src: 'data:,document.title=2'})"
        assert "TrustedScriptURL" in browser.js(
            f"try {{ document.body.append({script}) }} catch (e) {{ `${{e}}` }}"
        )
        assert browser.js("fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'refused')") == "refused"
        assert browser.js("document.title") == "Which answer is better?"


def test_what_is_refused_is_said(browser: Browser, server: Served) -> None:
    browser.open(f"{server.root}#/vote/wrong")
    browser.until("document.getElementById('fault')?.textContent.includes('address is not whole')")
    browser.open(server.url)
    judged(browser, 0)
    assert KEY not in browser.js("location.href")
