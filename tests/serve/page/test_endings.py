"""What people see on the page when the server or their login has ended."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.serve.page.browsing import KEY, Browsing, own_port, serving
from tests.serve.page.test_page import MODELS

pytestmark = pytest.mark.slow


def test_a_server_that_ended_leaves_what_is_on_the_page_and_says_so(
    browser: Browsing, tmp_path: Path
) -> None:
    models = {name: MODELS[name] for name in ("rain", "slow")}
    port = own_port()
    with serving(tmp_path, models, "--drain", "0.1", "--port", port) as url:
        idle, visit = browser.open(url), browser.open(url)
        visit.choose("slow")
        visit.ask("Wait.")
        visit.page.locator("#live .writing").wait_for()
    for each in (idle, visit):
        each.page.get_by_role("alert").filter(has_text="The connection to the server was lost").wait_for()
        assert "Attempting" not in each.page.inner_text("body")
    assert "Wait." in visit.page.inner_text("#main")
    assert not visit.page.locator("p.status:visible").count()
    with serving(tmp_path, models, "--port", port):
        visit.ask("And now?")
        visit.page.wait_for_timeout(3000)  # Gradio would look for the server, and reload
        assert "Wait." in visit.page.inner_text("#main")
        assert visit.page.input_value("#box textarea") == "And now?"
        visit.page.reload()
        visit.page.wait_for_selector(".empty")
        assert not visit.page.locator("#warning").inner_text()


def test_a_login_that_ended_is_told_and_the_conversation_goes_on_after_the_next(
    browser: Browsing, tmp_path: Path
) -> None:
    (tmp_path / "keys").write_text(f"{KEY} name=ada\n")
    with serving(tmp_path, {"rain": MODELS["rain"]}, "--api-key-file", "keys") as url:
        visit = browser.open(url, ready="#key")
        page, other = visit.page, visit.page.context.new_page()
        page.fill("#key", KEY)
        page.keyboard.press("Enter")
        page.wait_for_selector("#box textarea")
        visit.ask("Describe rain.")
        visit.answered("falls")
        other.goto(url)
        other.get_by_role("button", name="Log out · ada").click()
        other.wait_for_selector("#key")
        visit.ask("And snow?")
        page.get_by_role("alert").filter(has_text="You are logged out").wait_for()
        assert page.input_value("#box textarea") == "And snow?"
        other.fill("#key", KEY)
        other.keyboard.press("Enter")
        other.wait_for_selector("#box textarea")
        page.press("#box textarea", "Enter")
        page.locator("#done #turn-2 .final").wait_for()
        assert not page.locator("#warning").inner_text()
