"""Tries the page and those of others in Chromium, by the same script, and writes the table of docs/page.md.

    python benchmarks/page.py           # writes the table
    python benchmarks/page.py --only redraft

Each gets the same reply. llama.cpp's page is in the package xllamacpp; the browser puts the reply in place of
its model's. Gradio's ChatInterface, with history and editing on, and Open WebUI are tried where they are
installed (`--open-webui PATH` names its command). A cell is what the script saw, not what a manual says.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Error, sync_playwright

from page_peers import PEERS, Peer

PAGE = Path(__file__).resolve().parent.parent / "docs" / "page.md"
SLOW = {"offline": False, "downloadThroughput": 200_000, "uploadThroughput": 200_000, "latency": 150}
QUICK = 15_000  # milliseconds that a page has for what it does
USABLE = "box => !box.disabled && !box.readOnly && box.offsetParent !== null"


def seen(code: str) -> Callable[[Any, Peer], bool]:
    """Return a probe that is true if JavaScript in the page gives something true."""
    return lambda page, _: bool(page.evaluate(code))


def history(page: Any, _: Peer) -> bool:
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


def edits(page: Any, _: Peer) -> bool:
    """Return whether the first of two questions has a button to edit it."""
    for question in page.get_by_text("Show it.").all():
        question.hover(force=True)
        page.wait_for_timeout(500)
        if page.get_by_role("button", name=re.compile("edit", re.IGNORECASE)).count():
            return True
    return False


def changes(page: Any, _: Peer) -> bool:
    """Open everything that is folded, and look for what was added and removed."""
    for summary in page.locator("summary").all():
        summary.click(timeout=2000)
    page.wait_for_timeout(500)
    return bool(page.locator("ins, del").count())


def reconnects(page: Any, peer: Peer) -> bool:
    """Return whether a question that is asked without a network is answered when there is one again."""
    page.unroute_all()
    page.context.set_offline(True)
    before = page.evaluate("document.body.innerText.length")
    peer.ask(page, "Still there?")
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
PROBES: dict[str, Callable[[Any, Peer], bool]] = {
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


@contextmanager
def window(browser: Any) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1280, "height": 850})
    try:
        page = context.new_page()
        page.set_default_timeout(60_000)
        yield page
    finally:
        context.close()


def tried(browser: Any, peer: Peer) -> dict[str, str]:
    """Return what a page can do, by the names of the rows."""
    found = dict(zip(("kB at the first visit", *TIMES), loads(browser, peer), strict=True))
    with window(browser) as page:
        requests: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        peer.open(page)
        page.keyboard.type("Show it.")
        page.keyboard.press("Enter")
        found["keyboard from the first moment"] = said(shows(page, "It costs"))
        if found["keyboard from the first moment"] == "no":
            peer.ask(page, "Show it.")
            shows(page, "It costs")
        page.wait_for_timeout(3000)
        found |= {name: said(probe(page, peer)) for name, probe in PROBES.items()}
        foreign = {url for url in requests if not url.startswith((peer.url, "data:", "blob:"))}
        found["requests to other hosts"] = str(len(foreign))
        found["what axe finds wrong"] = str(len(Axe().run(page).response["violations"]))
        peer.ask(page, "And then?")
        page.wait_for_timeout(4000)
        for name, probe in LATE.items():
            found[name] = said(attempted(probe, page, peer))
    return found


def attempted(probe: Callable[[Any, Peer], bool], page: Any, peer: Peer) -> bool:
    try:
        return probe(page, peer)
    except Error:
        return False


def said(well: object) -> str:
    return "yes" if well else "no"


TIMES = ("s until usable at 1.6 Mbit/s, first visit", "s until usable at 1.6 Mbit/s, later")


def loads(browser: Any, peer: Peer) -> tuple[str, str, str]:
    """Return the kB of the first visit, and the seconds until the box can be used: at first, and again."""
    with window(browser) as page:
        size, wire = [0.0], page.context.new_cdp_session(page)
        wire.send("Network.enable")
        wire.on("Network.loadingFinished", lambda each: size.append(each["encodedDataLength"]))
        peer.route(page)
        page.goto(peer.url)
        page.wait_for_timeout(6000)
    with window(browser) as page:
        wire = page.context.new_cdp_session(page)
        wire.send("Network.enable")
        wire.send("Network.emulateNetworkConditions", SLOW)
        peer.route(page)
        times = []
        for _ in range(2):
            began = time.perf_counter()
            page.goto(peer.url, wait_until="commit")
            page.locator(peer.box).last.wait_for()
            page.wait_for_function(
                f"({USABLE})([...document.querySelectorAll({json.dumps(peer.box)})].at(-1))"
            )
            times.append(f"{time.perf_counter() - began:.1f}")
            page.wait_for_timeout(20_000)  # until all has come: some pages are never idle
    return f"{sum(size) / 1000:,.0f}", times[0], times[1]


def table(columns: dict[str, dict[str, str]]) -> str:
    rows = next(iter(columns.values()))
    lines = [f"| | {' | '.join(columns)} |", "|---|" + "---|" * len(columns)]
    lines += [f"| {row} | {' | '.join(found[row] for found in columns.values())} |" for row in rows]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=PEERS, action="append", help="a page, and nothing written")
    parser.add_argument("--open-webui", metavar="PATH", help="the command of an installed Open WebUI")
    asked, columns = parser.parse_args(), {}
    with sync_playwright() as playwright, TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        for name in asked.only or PEERS:
            with PEERS[name](Path(folder), asked.open_webui) as peer:
                if peer:
                    columns[f"{name} {peer.version}"] = tried(browser, peer)
                    print(table(columns), flush=True)
        browser.close()
    if not asked.only:
        before, _, rest = PAGE.read_text("utf-8").partition("<!-- table -->\n")
        _, _, after = rest.partition("<!-- end -->")
        PAGE.write_text(f"{before}<!-- table -->\n{table(columns)}\n<!-- end -->{after}", "utf-8")


if __name__ == "__main__":
    main()
