from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from redraft.chain import Chain
from tests.cli.verbs import wait_until
from tests.serve.page.browsing import KEY, ON_TOP, Browsing, inside, own_port, serving
from tests.serve.page.test_page import MODELS, SHORT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    with serving(folder, MODELS, "--parallel", "1", "--queue", "1") as address:
        yield address


def test_revise_retry_and_edit_make_branches(browser: Browsing, url: str) -> None:
    visit = browser.asking(url, "Describe rain.")
    page = visit.page
    turn = visit.answered("falls")
    turn.get_by_role("button", name="Revise again").click()
    page.get_by_text("2 of 2").wait_for()
    turn = visit.answered()
    assert visit.steps().locator(".name").all_inner_texts() == ["Draft", "Revision 1"]
    turn.get_by_role("button", name="Previous version").click()
    page.get_by_text("1 of 2").wait_for()
    assert page.locator(".turn .step").count() == 3
    visit.ask("And snow?")
    page.locator(".turn").nth(1).wait_for()
    visit.answered()
    page.get_by_role("button", name="Edit this question").first.click()
    box = page.get_by_label("Edit the question")
    assert box.input_value() == "Describe rain."
    box.fill("Describe hail.")
    page.keyboard.press("Enter")
    page.get_by_text("3 of 3").wait_for()
    visit.answered()
    assert page.locator(".turn").count() == 1
    page.get_by_role("button", name="Previous version").click()
    page.get_by_role("button", name="Previous version").click()
    page.get_by_text("And snow?").wait_for()
    visit.answered().get_by_role("button", name="Retry").click()
    page.get_by_text("2 of 2").wait_for()
    visit.answered()
    assert visit.faults == []


def test_a_revision_that_a_person_asks_for_wins_a_tie(browser: Browsing, url: str) -> None:
    visit = browser.asking(url, "Describe rain.", "tied")
    visit.answered("falls").get_by_role("button", name="Revise again").click()
    visit.answered("It drips.")


def test_conversations_are_kept_found_renamed_and_deleted(browser: Browsing, url: str) -> None:
    visit = browser.asking(url, "Describe rain.")
    page = visit.page
    visit.answered("falls")
    page.get_by_role("button", name="New conversation").click()
    page.locator(".empty").wait_for()
    visit.choose("code")
    visit.ask("How do I print?")
    visit.answered("That is all")
    page.fill("#box", "A half-typed quest")
    page.wait_for_timeout(500)
    page.reload()
    visit.answered("That is all")
    assert page.input_value("#box") == "A half-typed quest"
    page.go_back()
    page.go_back()
    visit.answered("falls")
    kept = page.locator("#conversations li")
    assert kept.count() == 2
    page.set_viewport_size({"width": 1200, "height": 350})
    scrolls = "e => e.scrollHeight > e.clientHeight"
    assert page.locator(".kept").evaluate(scrolls)
    assert not page.locator("#conversations").evaluate(scrolls)  # New conversation stays
    page.get_by_label("Search conversations").fill("water falls")
    kept.get_by_text("How do I print?").wait_for(state="detached")
    assert kept.locator("a").all_inner_texts() == ["Describe rain."]
    page.get_by_label("Search conversations").fill("")
    page.get_by_role("button", name="Rename").click()
    page.get_by_label("The conversation's name").fill("Weather")
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Weather").wait_for()
    page.get_by_role("button", name="Move").click()
    page.get_by_label("The conversation's folder").fill("Sky")
    page.keyboard.press("Enter")
    page.locator(".folder", has_text="Sky").get_by_role("link", name="Weather").wait_for()
    periods = "return given.map((day) => own.periodOf(new Date(2026, 4, day), new Date(2026, 4, 20, 12)));"
    found = visit.told("store.js", periods, [20, 19, 14, -20])
    assert found == ["Today", "Yesterday", "The last 7 days", "April 2026"]
    page.get_by_role("button", name="Delete").click()
    page.locator(".empty").wait_for()
    assert kept.count() == 1
    page.get_by_role("button", name="Undo").click()
    visit.answered("falls")
    page.reload()
    visit.answered("falls")
    assert kept.count() == 2
    assert visit.faults == []


def saved(page: Any, label: str) -> str:
    page.get_by_text("Export", exact=True).click()
    with page.expect_download() as download:
        page.get_by_role("button", name=label).click()
    return Path(download.value.path()).read_text()


def test_a_conversation_is_exported(browser: Browsing, url: str) -> None:
    visit = browser.asking(url, "Describe <b>rain</b>.")
    page = visit.page
    visit.answered("falls")
    [line] = saved(page, "Chains").splitlines()
    chain = Chain.from_json(line)
    assert (len(chain.steps), chain.answer, chain.passed) == (3, SHORT, True)
    assert chain.prompt.text == "Describe <b>rain</b>."
    markdown, html = saved(page, "Markdown"), saved(page, "HTML")
    found = r"(rain · \w+ \d+, \d{4}, .+ · ✓ 5 words, at most 5)"
    assert re.search(rf"> Describe <b>rain</b>\.\n\n{re.escape(SHORT)}\n\n\*{found}\*\n", markdown)
    assert re.search(found, html)
    assert re.search(r"<summary>Draft</summary>\n\nRain .+\n\n- ✗ words<=5: The answer has", markdown)
    page.get_by_text("Export", exact=True).click()
    page.locator(".turn").click()  # elsewhere
    assert not page.locator("details.menu[open]").count()
    assert "&lt;b&gt;rain" in html
    assert "<strong>water</strong>" in html
    assert '<html lang="en' in html
    assert "<title>Describe &lt;b&gt;rain&lt;/b&gt;.</title>" in html
    assert visit.faults == []


def test_a_stopped_answer_keeps_its_steps_and_is_a_chain(browser: Browsing, url: str) -> None:
    visit = browser.asking(url, "Wait.", "critic")
    visit.page.locator(".writing", has_text="Rain").locator(".label", has_text="Draft").wait_for()
    visit.page.keyboard.press("Escape")
    assert visit.answered("Rain").locator(".broken").inner_text() == "You stopped this answer before its end."
    wait_until(lambda: not inside(url))
    chain = Chain.from_json(saved(visit.page, "Chains"))
    assert (chain.stop, chain.steps[0].answer, chain.steps[0].finish) == ("cancelled", "Rain", "cancelled")


def test_what_there_is_of_an_answer_survives_a_reload(browser: Browsing, url: str) -> None:
    visit = browser.asking(url, "Wait.", "slow")
    page = visit.page
    page.locator(".writing").filter(has_text="Rain").wait_for()
    page.locator(".clock", has_text="2 s").wait_for()
    page.reload()
    assert "the page was closed" in visit.answered("Rain").locator(".broken").inner_text()
    low = page.locator("#box").bounding_box()["height"]
    page.fill("#box", "A line\n" * 6)
    assert page.locator("#box").bounding_box()["height"] > 3 * low
    wait_until(lambda: not inside(url))


def test_settings_decide_how_an_answer_is_revised(browser: Browsing, url: str) -> None:
    visit = browser.open(url)
    page = visit.page
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Revisions, at least").fill("5")
    page.get_by_label("Revisions, at most").fill("3")
    page.get_by_text("At least 5 revisions, and at most 3").first.wait_for()
    visit.ask("Describe rain.")
    assert page.locator(".turn").count() == 0
    assert page.input_value("#box") == "Describe rain."
    page.get_by_label("Revisions, at least").fill("")
    page.get_by_label("Revisions, at most").fill("0")
    visit.ask("Describe rain.")
    assert not visit.answered().locator(".step").count()
    page.get_by_label("Revisions, at most").fill("")  # the model's own, and not 0
    visit.ask("Describe rain.")
    page.locator(".turn").nth(1).wait_for()
    assert visit.answered().locator(".step").count() > 1
    page.get_by_text("Advanced").click()
    page.get_by_label("Temperature").fill("3")
    page.get_by_text("Temperature: 3 is not a number from 0 to 2").first.wait_for()


def test_errors_are_messages_on_the_page(browser: Browsing, url: str) -> None:
    visit = browser.asking(url, "Fail.", "broken")
    page = visit.page
    alert = page.locator(".turn [role=alert]")
    alert.wait_for()
    assert alert.inner_text().startswith("The answer broke off: the model's server failed.")
    assert "Traceback" not in page.inner_text("body")
    assert "Rain is" in page.locator(".turn .final").inner_text()
    others = [browser.open(url), browser.open(url)]
    for other in others:
        other.choose("slow")
        other.ask("Wait.")
        other.page.locator(".status").wait_for()
    others[1].page.get_by_text("Waiting in the queue").first.wait_for()
    visit.choose("slow")
    visit.ask("Is there room?")
    page.get_by_text("too many requests are waiting. Try again in 5 s.").first.wait_for()
    for other in others:
        other.page.close()
    wait_until(lambda: not inside(url))


def test_the_page_connects_again_by_itself(browser: Browsing, tmp_path: Path) -> None:
    models = {name: MODELS[name] for name in ("rain", "slow")}
    with serving(tmp_path, models, "--port", port := own_port(), "--drain", "0.1") as url:
        visit = browser.open(url)
        visit.ask("Describe rain.")
        visit.answered("falls")
        visit.choose("slow")
        visit.ask("Wait.")
        visit.page.locator(".writing").filter(has_text="Rain").wait_for()
    visit.page.get_by_text("The server stopped this answer before its end.").wait_for()
    visit.choose("rain")
    visit.ask("And snow?")
    visit.page.get_by_text("The server does not answer").wait_for()
    visit.page.set_viewport_size({"width": 700, "height": 480})
    status = visit.page.locator(".status", has_text="Waiting for the server")
    status.evaluate("(each) => { scrollTo(0, document.documentElement.scrollHeight); }")
    assert status.evaluate(ON_TOP)
    visit.page.locator("main select").click(trial=True)  # the message does not cover it either
    with serving(tmp_path, models, "--port", port):
        visit.page.locator(".turn").nth(2).wait_for()
        visit.answered("falls")
        assert not visit.page.locator("#trouble, .turn [role=alert]").count()


def test_a_question_before_the_page_is_ready_is_not_lost(browser: Browsing, url: str) -> None:
    visit = browser.open("about:blank", ready="body")
    page = visit.page
    page.route("**/app.js", lambda route: (page.wait_for_timeout(600), route.continue_()))
    page.goto(url, wait_until="commit")
    page.locator("#box").type("Describe rain.")
    page.keyboard.press("Enter")
    visit.answered("falls")
    assert page.locator(".turn").count() == 1  # asked once


def test_a_text_file_goes_to_the_model(browser: Browsing, url: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("Rain is wet.")
    (tmp_path / "data.bin").write_bytes(b"\xff\x00")
    visit = browser.open(url)
    page = visit.page
    files = page.get_by_label("Attach files")
    files.set_input_files(tmp_path / "data.bin")
    page.get_by_text("data.bin is not a text file").wait_for()
    files.set_input_files(tmp_path / "notes.txt")
    page.get_by_role("button", name="Remove notes.txt").wait_for()
    visit.ask("Is it?")
    visit.answered()
    [line] = saved(page, "Chains").splitlines()
    assert (
        json.loads(line)["prompt"]["messages"][-1]["content"] == "File notes.txt:\n\nRain is wet.\n\nIs it?"
    )


def test_two_models_are_compared_blindly(browser: Browsing, url: str, folder: Path) -> None:
    visit = browser.open(f"{url}#/compare", ready="fieldset select")
    page = visit.page
    visit.choose("rain", "One model")
    visit.choose("long", "The other model")
    visit.ask("Describe rain.", "#question")
    page.locator("#votes").wait_for()
    assert "revisi" not in page.locator("#turns").inner_text()
    assert not page.locator("#rounds details").count()
    first = "1" if "falls" in page.locator(".side").first.inner_text() else "2"
    page.get_by_label("Your name, stored with the vote").fill("Ada")
    page.get_by_role("button", name=f"Answer {first} is better").click()
    assert page.get_by_text("the vote is stored").first.evaluate(ON_TOP)
    assert "rain, 0 to 3 revisions" in page.locator("#rounds").inner_text()
    [vote] = [json.loads(line) for line in (folder / "votes.jsonl").read_text().splitlines()]
    assert (vote["winner"], vote["judge"]) == (first, "Ada")
    assert vote["metadata"]["question"] == "Describe rain."
    report = [sys.executable, "-m", "redraft", "report", "votes.jsonl"]
    said = subprocess.run(report, cwd=folder, capture_output=True, text=True, check=True).stdout
    assert "1 won, 0 tied, 0 lost" in said or "0 won, 0 tied, 1 lost" in said
    body = {"id": vote["question_id"], "question": "Again", "names": ["a", "b"], "answers": ["a", "b"]}
    again = httpx.post(f"{url}page/votes", json={**body, "winner": "2", "swapped": False})
    assert again.json() == {"stored": False}

    page.get_by_text("Your votes so far").click()
    assert page.locator(".tally tbody tr").count() == 2
    page.get_by_role("button", name="Compare again").click()
    visit.choose("plain", "One model")
    visit.ask("Once more?", "#question")
    page.locator("#votes").wait_for()
    page.get_by_text("Both answered without revising.").wait_for()
    visit.ask("And snow?", "#question")
    page.locator(".side").nth(3).wait_for()
    page.locator("#votes").wait_for()
    page.get_by_role("button", name="Both are bad").click()
    page.get_by_text("the vote is stored").first.wait_for()
    vote = json.loads((folder / "votes.jsonl").read_text().splitlines()[-1])
    assert (vote["winner"], vote["metadata"]["both"]) == ("tie", "bad")
    visit.choose("plain", "The other model")
    visit.ask("Twice?", "#question")
    page.get_by_text("Both sides are the same").first.wait_for()
    assert page.input_value("#question") == "Twice?"
    assert visit.faults == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 768])
def test_a_small_window_never_scrolls_sideways(browser: Browsing, url: str, scheme: str, width: int) -> None:
    phone = {"viewport": {"width": width, "height": 780}, "is_mobile": width < 500, "has_touch": True}
    visit = browser.open(url, color_scheme=scheme, **phone)
    page = visit.page
    wide = f"document.documentElement.scrollWidth > {width}"
    for model, question in (("long", "x" * 300), ("rich", "Show."), ("rain", "Describe rain.")):
        visit.choose(model)
        visit.ask(question)
        page.get_by_text(question).last.wait_for()
        visit.answered()
        assert not page.evaluate(wide)
    assert not page.locator(".about").is_visible()  # there is no room for it
    visit.steps().nth(1).locator("summary").click()
    page.get_by_role("button", name="+ Check").click()
    share = "document.querySelector('.chips').offsetWidth / document.querySelector('.box').offsetWidth"
    assert page.evaluate(share) > (0.9 if width < 500 else 0.5)
    assert not page.evaluate(wide)
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Revisions, at most").wait_for()
    assert not page.evaluate(wide)
    page.goto(f"{url}#/compare")
    page.locator("#question").wait_for()
    assert not page.evaluate(wide)
    assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == scheme


def test_the_keyboard_reaches_everything(browser: Browsing, url: str) -> None:
    visit = browser.open(url)
    page = visit.page
    page.keyboard.type("Describe rain.")  # the box has the focus
    page.keyboard.press("Enter")
    visit.answered()
    page.get_by_role("button", name="New conversation").focus()
    reached = []
    for _ in range(26):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate("document.activeElement.innerText?.trim() || document.activeElement.ariaLabel")
        )
    names = " | ".join(map(str, reached))
    for name in (
        "Revised twice",
        "5 words, at most 5",
        "Revise again",
        "Retry",
        "Edit",
        "+ Check",
        "Send",
        "Export",
        "Settings",
    ):
        assert name in names
    page.locator(".path > summary").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.locator(".step[open]").wait_for()


def test_a_screen_reader_is_told_of_steps(browser: Browsing, url: str) -> None:
    visit = browser.asking(url, "Describe rain.")
    visit.answered()
    visit.page.locator("div.sr[role=status]", has_text="The answer is complete.").wait_for(state="attached")
    for said in ("You asked", "Answer"):
        assert visit.page.locator(".turn .sr", has_text=said).count()


def test_with_keys_the_page_asks_for_one_first(browser: Browsing, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"{KEY} name=Ada")
    with serving(tmp_path, {"rain": MODELS["rain"]}, "--api-key-file", "keys") as url:
        for path in ("v1/models", "v1/checks", "metrics", "openapi.json"):
            assert httpx.get(url + path).status_code == 401
        visit = browser.open(url, ready="#key")
        page = visit.page
        page.get_by_label("API key").fill("a-key-that-is-wrong")
        page.keyboard.press("Enter")
        page.get_by_text("That key is wrong").first.wait_for()
        page.get_by_label("API key").fill(KEY)
        page.keyboard.press("Enter")
        page.wait_for_selector("#box")
        [cookie] = page.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        assert page.evaluate("document.cookie") == ""
        visit.ask("Describe rain.")
        visit.answered("falls")
        assert page.request.get(f"{url}logout").status == 404  # a link from elsewhere ends no login
        assert page.request.post(f"{url}logout", headers={"Origin": "https://evil.example"}).status == 403
        body = {"id": "12345678", "question": "?", "names": ["a", "b"], "answers": ["a", "b"]}
        vote = {**body, "winner": "1", "swapped": False, "voter": "Eve"}
        assert page.request.post(f"{url}page/votes", data=vote).json() == {"stored": True}
        assert json.loads((tmp_path / "votes.jsonl").read_text())["judge"] == "Ada"  # not another's name
        page.reload()
        visit.answered("falls")
        page.locator("main option").first.wait_for(state="attached")
        (tmp_path / "keys").write_text("another-key-of-the-tests")  # the other one is revoked
        visit.ask("Describe snow.")
        page.get_by_text("Your login has ended. Log in again.").wait_for()
        page.get_by_label("API key").fill("another-key-of-the-tests")
        page.keyboard.press("Enter")
        page.wait_for_selector("#box")
        assert page.input_value("#box") == "Describe snow."
        page.get_by_role("button", name="Log out", exact=True).click()
        page.wait_for_selector("#key")
        page.goto(url)
        page.wait_for_selector("#key")
        assert visit.foreign() == set()
        assert KEY not in (tmp_path / "log").read_text()
