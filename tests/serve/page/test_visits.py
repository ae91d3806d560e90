"""More of what people do on the page: they stop, edit, compare, use a phone or the keyboard, and log in."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from redraft.chain import Chain
from tests.serve.page.browsing import KEY, Browsing, Visit, inside, serving
from tests.serve.page.test_page import DRAFT, MODELS, SHORT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("visits")


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    with serving(folder, MODELS, "--parallel", "1", "--queue", "1") as address:
        yield address


def steps(visit: Visit) -> int:
    return int(visit.page.locator("#done .turn").last.locator("details.step").count())


def test_revise_retry_undo_and_edit(browser: Browsing, url: str) -> None:
    visit = browser.open(url)
    page = visit.page
    visit.ask("Describe rain.")
    visit.answered(SHORT.replace("*", ""))
    page.click("#edit")
    page.locator("#turn-1").wait_for(state="detached")
    shown = [page.is_visible(f"#{name}") for name in ("revise", "retry", "edit", "undo")]
    assert shown == [False, False, False, True]
    page.click("#undo")
    visit.answered("falls")
    page.wait_for_selector("#revise")
    page.click("#revise")
    page.locator("#turn-1-3").wait_for()
    visit.answered()
    assert steps(visit) == 4
    page.click("#undo")
    page.locator("#turn-1-3").wait_for(state="detached")
    page.click("#retry")
    page.locator("#done #turn-1-2").wait_for(state="detached")
    visit.answered()
    visit.ask("And snow?")
    page.locator("#turn-2").wait_for()
    visit.answered()
    page.click("#edit")
    page.locator("#turn-2").wait_for(state="detached")
    assert page.input_value("#box textarea") == "And snow?"
    page.click("#undo")
    page.locator("#turn-2").wait_for()
    page.get_by_role("button", name="New conversation").click()
    page.locator(".empty").wait_for()
    page.get_by_role("button", name="Describe a lighthouse").click()
    turn = visit.answered()
    assert "Describe a lighthouse" in turn.locator(".you").inner_text()
    assert visit.faults == []


def test_a_long_question_is_folded_and_its_answer_is_in_sight(browser: Browsing, url: str) -> None:
    visit = browser.open(url, permissions=["clipboard-read", "clipboard-write"])
    page = visit.page
    question = "\n".join(f"{number:03} Is <b>this</b>   *rain* & snow?" for number in range(600))
    page.evaluate("text => navigator.clipboard.writeText(text)", question)
    page.focus("#box textarea")
    page.keyboard.press("Control+v")
    page.keyboard.press("Enter")
    turn = visit.answered("falls")
    asked = turn.locator(".you")
    assert asked.bounding_box()["height"] < 250
    page.wait_for_timeout(300)
    assert 0 < turn.locator(".final").bounding_box()["y"] < 850
    turn.get_by_text("Show all").click()
    assert asked.bounding_box()["height"] > 9000
    address = page.get_by_role("link", name="Save conversation").get_attribute("href")
    assert Chain.from_json(httpx.get(url + address).text.splitlines()[0]).prompt.text == question
    asked.locator(".asis").evaluate("text => getSelection().selectAllChildren(text)")
    page.keyboard.press("Control+c")
    assert page.evaluate("navigator.clipboard.readText()") == question


def test_stop_keeps_what_there_is_and_revise_goes_on(browser: Browsing, url: str) -> None:
    visit = browser.open(url)
    visit.choose("slow")
    visit.ask("Wait.")
    visit.page.locator("#live .writing").wait_for()
    visit.page.keyboard.press("Escape")
    turn = visit.answered("Rain")
    assert "stopped" in turn.locator(".meta").inner_text()
    assert inside(url) == 0


def test_a_new_conversation_ends_the_answer_and_does_not_have_it(browser: Browsing, url: str) -> None:
    visit = browser.open(url)
    visit.choose("slow")
    visit.ask("Wait.")
    visit.page.locator("#live .writing").wait_for()
    visit.page.get_by_role("button", name="New conversation").click()
    visit.page.locator(".empty").wait_for()
    visit.page.locator("#live .writing").wait_for(state="detached")
    assert inside(url) == 0
    visit.page.locator("#send").wait_for()
    assert visit.page.locator("#done .turn").count() == 0


def test_sliders_decide_how_often_a_model_revises(browser: Browsing, url: str) -> None:
    visit = browser.open(url)
    for name, value in (("at most", "0"), ("at least", "0")):
        visit.page.get_by_role("spinbutton", name=f"number input for Revisions, {name}").first.fill(value)
    visit.page.keyboard.press("Tab")
    visit.page.wait_for_timeout(300)
    visit.ask("Describe rain.")
    visit.answered()
    assert steps(visit) == 1


def test_errors_are_messages_on_the_page(browser: Browsing, url: str) -> None:
    visit = browser.open(url)
    page = visit.page
    visit.choose("broken")
    visit.ask("Fail.")
    alert = page.locator("#live [role=alert]")
    alert.wait_for()
    assert "the model fell over" in alert.inner_text()
    assert "Traceback" not in page.inner_text("body")
    assert "Rain is" in page.inner_text("#done")
    others = [browser.open(url), browser.open(url)]
    for other in others:
        other.choose("slow")
        other.ask("Wait.")
        other.page.locator("#live .status").wait_for()
    others[1].page.get_by_text("Waiting for a free place").first.wait_for()
    visit.choose("slow")
    visit.ask("Is there room?")
    page.get_by_text("too many requests are waiting").first.wait_for()
    assert page.input_value("#box textarea") == "Is there room?"
    for other in others:
        other.page.close()
    deadline = time.monotonic() + 60
    while inside(url):
        assert time.monotonic() < deadline, "a page that was closed still asks"
        time.sleep(0.05)


def test_the_request_log_has_what_people_asked_and_each_chain_has_its_own_id(
    browser: Browsing, tmp_path: Path
) -> None:
    models = {name: MODELS[name] for name in ("rain", "broken")}
    with serving(tmp_path, models, "--request-log", "requests.db", "--log-text") as url:
        for model in ("rain", "rain", "broken"):
            visit = browser.open(url)
            visit.choose(model)
            visit.ask("Describe rain.")
            visit.page.wait_for_selector("#actions", state="visible")
    with closing(sqlite3.connect(tmp_path / "requests.db")) as log:
        rows = log.execute("SELECT id, status, error FROM requests WHERE method = 'PAGE'").fetchall()
        chains = log.execute("SELECT chain FROM chains").fetchall()
    assert [row[1:] for row in rows] == [(200, None), (200, None), (502, "engine_error")]
    assert [json.loads(chain)["id"] for (chain,) in chains] == [row[0] for row in rows]


def test_two_models_that_fail_are_two_warnings_with_the_ids_of_their_lines(
    browser: Browsing, tmp_path: Path
) -> None:
    broken = {name: {**MODELS["broken"], "max-revisions": most} for name, most in (("one", 0), ("two", 1))}
    with serving(tmp_path, broken) as url:
        visit = browser.open(url)
        visit.page.get_by_role("tab", name="Compare").click()
        visit.choose("one", "One model")
        visit.choose("two", "The other model")
        visit.ask("Fail.", "#question")
        visit.page.locator("#both [role=alert]").wait_for()
    log = (tmp_path / "log").read_text()
    warned = set(re.findall(r"WARNING a model failed: .*id=(\S+)", log))
    assert warned == set(re.findall(r"id=(\S+) method='PAGE'", log))
    assert len(warned) == 2
    assert "Traceback" not in log


def test_an_empty_question_is_not_asked(browser: Browsing, url: str, folder: Path) -> None:
    visit = browser.open(url)
    visit.ask(" ")
    visit.page.get_by_role("tab", name="Compare").click()
    visit.ask(" ", "#question")
    visit.page.wait_for_timeout(500)
    assert "Error" not in visit.page.locator("body").inner_text()
    assert "Traceback" not in (folder / "log").read_text()


def test_two_models_are_compared_blindly_and_the_vote_is_a_review(
    browser: Browsing, url: str, folder: Path
) -> None:
    visit = browser.open(url)
    page = visit.page
    page.get_by_role("tab", name="Compare").click()
    visit.choose("rain", "One model")
    visit.choose("long", "The other model")
    visit.ask("Describe rain.", "#question")
    page.locator("#votes").wait_for()
    shown = page.inner_text("#answers")
    assert "revisions" not in shown
    assert "details" not in page.inner_html("#answers")
    first = "1" if "falls" in page.inner_text("#first") else "2"
    page.get_by_label("Your name, kept with the vote").fill("Ada")
    page.get_by_role("button", name=f"Answer {first} is better").click()
    page.get_by_text("the vote is stored").first.wait_for()
    assert "rain, 0 to 3 revisions" in page.inner_text("#answers")
    [vote] = [json.loads(line) for line in (folder / "votes.jsonl").read_text().splitlines()]
    assert (vote["winner"], vote["judge"]) == (first, "Ada")
    assert vote["metadata"]["question"] == "Describe rain."
    report = [sys.executable, "-m", "redraft", "report", "votes.jsonl"]
    said = subprocess.run(report, cwd=folder, capture_output=True, text=True, check=True).stdout
    assert "1 won, 0 tied, 0 lost" in said or "0 won, 0 tied, 1 lost" in said

    (folder / "votes.jsonl").rename(folder / "old.jsonl")
    (folder / "votes.jsonl").mkdir()
    visit.ask("Again?", "#question")
    page.locator("#votes").wait_for()
    page.get_by_role("button", name="Equally good").click()
    page.locator("#both [role=alert]").wait_for()
    assert page.is_visible("#votes")
    page.wait_for_timeout(500)  # it scrolls up to the alert, which would close an open list
    pytest.importorskip("playwright.sync_api").expect(page.locator("#question")).to_be_in_viewport()
    visit.choose("rain", "The other model")
    visit.ask("Twice?", "#question")
    page.get_by_text("both sides are the same").first.wait_for()
    assert visit.faults == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_never_scrolls_sideways(browser: Browsing, url: str, scheme: str) -> None:
    phone = {"viewport": {"width": 390, "height": 780}, "is_mobile": True, "has_touch": True}
    visit = browser.open(url, color_scheme=scheme, **phone)
    page = visit.page
    wide = "document.documentElement.scrollWidth > 390"
    page.click("#settings-button")
    assert page.get_by_role("button", name="Settings").get_attribute("aria-expanded") == "true"
    visit.choose("long")
    visit.ask("x" * 300)
    visit.answered("Rain")
    assert not page.evaluate(wide)
    visit.choose("rain")
    visit.ask("Describe rain.")
    page.locator("#turn-2-1 summary").click()
    assert not page.evaluate(wide)
    page.get_by_role("tab", name="Compare").click()
    page.locator("#question").wait_for()
    assert not page.evaluate(wide)
    assert ("dark" in (page.locator("body").get_attribute("class") or "")) == (scheme == "dark")


def test_the_keyboard_reaches_everything(browser: Browsing, url: str) -> None:
    visit = browser.open(url)
    page = visit.page
    page.locator("#box textarea").focus()
    page.keyboard.type("Describe rain.")
    page.keyboard.press("Enter")
    visit.answered()
    page.locator("#save a").focus()
    reached = []
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.textContent.trim()"))
    names = " | ".join(reached)
    for name in ("Draft", "Revision 1", "Revise again", "Retry", "Edit", "Undo", "Send"):
        assert name in names
    page.locator("#turn-1-0 summary").focus()
    page.keyboard.press("Enter")
    page.locator("#turn-1-0[open]").wait_for()
    page.get_by_role("tab", name="Compare").focus()
    page.keyboard.press("Enter")
    page.locator("#question").wait_for()


def test_all_controls_have_names_for_screen_readers(browser: Browsing, url: str) -> None:
    visit = browser.open(url)
    visit.ask("Describe rain.")
    visit.answered()
    nameless = """() => [...document.querySelectorAll('button, input, textarea, select, a')]
        .filter(e => e.offsetParent && !(e.innerText || '').trim() && !e.getAttribute('aria-label')
            && !(e.labels && e.labels.length)).map(e => e.outerHTML)"""
    assert visit.page.evaluate(nameless) == []
    visit.page.locator("div.sr[role=status]", has_text="The answer is complete.").wait_for(state="attached")
    for said in ("You asked", "Answer", "failed: "):
        assert visit.page.locator("#done .sr", has_text=said).count()


def test_an_opened_step_stays_open_while_the_next_is_written(browser: Browsing, tmp_path: Path) -> None:
    slow = {"replies": [{"settings": {"delay": 0.05}}, DRAFT, DRAFT + DRAFT], "check": ["words<=5"]}
    with serving(tmp_path, {"slow": slow}) as url:
        visit = browser.open(url)
        visit.ask("Describe rain.")
        visit.page.locator("#live #turn-1-0 summary").click()
        visit.page.locator("#live .writing").wait_for()
        visit.page.wait_for_timeout(500)
        assert visit.page.locator("#live #turn-1-0[open]").count()


def test_with_keys_the_page_asks_for_one_and_nothing_is_open_before(
    browser: Browsing, tmp_path: Path
) -> None:
    (tmp_path / "keys").write_text(KEY)
    with serving(tmp_path, {"rain": MODELS["rain"]}, "--api-key-file", "keys") as url:
        for path in (
            "assets/x.js",
            "theme.css",
            "gradio_api/queue/data",
            "page/page.js",
            "static/x",
            "config",
        ):
            assert httpx.get(url + path).status_code == 401
        assert httpx.post(f"{url}gradio_api/queue/join", json={}).status_code == 401
        assert httpx.get(url).status_code == 401
        visit = browser.open(url, ready="#key")
        page = visit.page
        page.get_by_label("API key").fill("a-key-that-is-wrong")
        page.keyboard.press("Enter")
        page.get_by_text("That key is not right").first.wait_for()
        page.get_by_label("API key").fill(KEY)
        page.keyboard.press("Enter")
        page.wait_for_selector("#box textarea")
        [cookie] = page.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        assert page.evaluate("document.cookie") == ""
        visit.ask("Describe rain.")
        visit.answered("falls")
        assert page.request.get(f"{url}logout").status == 404  # a link from elsewhere ends no login
        elsewhere = {"Origin": "https://evil.example"}
        assert page.request.post(f"{url}logout", headers=elsewhere).status == 403
        page.get_by_role("button", name="Log out", exact=True).click()
        page.wait_for_selector("#key")
        page.goto(url)
        page.wait_for_selector("#key")
        assert {each for each in visit.requests if not each.startswith((url, "data:", "blob:"))} == set()
        shutil.copy(tmp_path / "log", tmp_path / "seen")
        assert KEY not in (tmp_path / "seen").read_text()
