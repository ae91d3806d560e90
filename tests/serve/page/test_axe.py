"""axe finds nothing wrong on any view of the page, in light, dark and forced colours, small and large."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.evaluation.voting.test_ballots import Voting
from tests.serve.page import booths
from tests.serve.page.browsing import Browsing, serving
from tests.serve.page.test_page import MODELS

pytestmark = pytest.mark.slow
LOOKS = [
    (320, {"color_scheme": "dark"}),
    (390, {"color_scheme": "light"}),
    (768, {"color_scheme": "light", "forced_colors": "active"}),
    (1280, {"color_scheme": "light"}),
    (1280, {"color_scheme": "dark"}),
]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("axe"), MODELS) as address:
        yield address


def found(page: Any) -> list[str]:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    return [f"{each['id']}: {each['nodes'][0]['html']}" for each in axe.run(page).response["violations"]]


@pytest.mark.parametrize(("width", "look"), LOOKS)
def test_nothing_is_wrong_on_any_view(browser: Browsing, url: str, width: int, look: dict[str, str]) -> None:
    visit = browser.open(url, viewport={"width": width, "height": 850}, **look)
    page, wrong = visit.page, {}
    wrong["empty"] = found(page)
    for model, question in (("wordy", "Describe rain."), ("rich", "Show."), ("broken", "Fail.")):
        visit.choose(model)
        visit.ask(question)
        page.get_by_text(question).last.wait_for()
        visit.answered()
    page.locator(".path > summary").first.click()
    page.locator(".step summary").nth(1).click()
    page.locator(".katex").first.wait_for()
    page.get_by_role("button", name="+ Check").click()
    page.get_by_label("Check", exact=True).type("word<=5")
    page.get_by_text("Did you mean").wait_for()
    wrong["chat"] = found(page)
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Edit this question").first.click()
    page.get_by_role("button", name="Settings").click()
    page.get_by_text("Advanced").click()
    wrong["settings"] = found(page)
    page.goto(f"{url}#/compare")
    visit.choose("rain", "One model")
    visit.choose("rich", "The other model")
    visit.ask("Describe rain.", "#question")
    page.locator("#votes").wait_for()
    wrong["compare"] = found(page)
    page.get_by_role("button", name="Both are bad").click()
    page.get_by_text("Your votes so far").click()
    wrong["voted"] = found(page)
    assert {name: faults for name, faults in wrong.items() if faults} == {}


def test_nothing_is_wrong_where_people_log_in_and_vote(browser: Browsing, tmp_path: Path) -> None:
    with booths.serving(Voting(tmp_path), known=False) as booth:
        for width, look in LOOKS:
            visit = browser.open(booth.url, ready="#name", viewport={"width": width, "height": 850}, **look)
            assert found(visit.page) == []
            visit.page.keyboard.press("Enter")
            visit.page.locator("#count").wait_for()
            assert found(visit.page) == []
        visit = browser.open(booth.root, ready="main select, #key, main")
        visit.page.locator("#key").wait_for()
        assert found(visit.page) == []
