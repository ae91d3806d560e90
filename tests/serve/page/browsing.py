"""The page in a real browser: `redraft serve` in a process of its own, with scripted models, and Chromium.

with serving(tmp_path, {"rain": ["Rain is wet."]}) as url, chromium() as browser:
    visit = Browsing(browser).open(url)
"""

from __future__ import annotations

import json
import random
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

WAIT = 60
LATE = 30_000  # milliseconds
KEY = "a-key-of-the-tests-1"
ON_TOP = """(each) => {
  const { x, y, width, height } = each.getBoundingClientRect();
  return each.contains(document.elementFromPoint(x + width / 2, y + height / 2));
}"""


@contextmanager
def serving(
    folder: Path, models: Mapping[str, Mapping[str, Any] | Sequence[Any]], *words: str
) -> Iterator[str]:
    entries = {}
    for name, given in models.items():
        settings = dict(given) if isinstance(given, Mapping) else {"replies": given}
        lines = [json.dumps(reply) for reply in settings.pop("replies")]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
        entries[name] = {"model": f"script:{name}.jsonl", **settings}
    (folder / "models.yaml").write_text(json.dumps(entries))
    command = [sys.executable, "-m", "redraft", "serve", "--port", "0", "--models", "models.yaml", *words]
    command += ["--linger", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=folder) as process:
        try:
            assert process.stderr
            said = "".join(process.stderr.readline() for _ in range(3))
            found = re.search(r"The page: (\S+)", said)
            assert found, said
            with (folder / "log").open("w") as log:
                reading = subprocess.Popen(["cat"], stdin=process.stderr, stdout=log)
            yield found[1]
        finally:
            process.terminate()
            assert process.wait(WAIT) == 0
            reading.wait(WAIT)


def own_port() -> str:
    """A port that stays free when a server has left it: no connection of another program is given it."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", random.choice(range(20_000, 32_000))))
        return str(sock.getsockname()[1])


def inside(url: str) -> float:
    return float(httpx.get(f"{url}metrics").text.split("\nredraft_requests_inside ")[1].split()[0])


@dataclass
class Visit:
    """A browser's window on the page."""

    page: Any  # Playwright's page
    requests: list[str] = field(default_factory=list)  # the requested addresses
    faults: list[str] = field(default_factory=list)  # the console's messages and uncaught errors

    def ask(self, text: str, box: str = "#box") -> None:
        self.page.fill(box, text)
        self.page.press(box, "Enter")

    def answered(self, text: str = "") -> Any:
        turn = self.page.locator(".turn").last
        turn.locator(".final").filter(has_text=text).wait_for()
        turn.locator(".actions").wait_for()
        return turn

    def told(self, module: str, code: str, given: Any) -> Any:
        path = f"document.querySelector('script').src.replace('app.js', '{module}')"
        return self.page.evaluate(f"async (given) => {{ const own = await import({path}); {code} }}", given)

    def steps(self) -> Any:
        path = self.page.locator(".turn").last.locator("details.path")
        path.locator("summary").first.click()
        return path.locator("details.step")

    def choose(self, name: str, label: str = "Model") -> None:
        self.page.get_by_label(label, exact=True).last.select_option(name)

    def check(self, text: str) -> None:
        self.page.get_by_role("button", name="+ Check").click()
        self.page.get_by_label("Check", exact=True).fill(text)
        self.page.keyboard.press("Enter")
        self.page.get_by_role("button", name=f"Change the check {text}").wait_for()

    def foreign(self) -> set[str]:
        own = "/".join(self.page.url.split("/")[:3])
        return {each for each in self.requests if not each.startswith((own, "data:", "blob:"))}


@dataclass
class Browsing:
    browser: Any

    def close(self) -> None:
        for context in self.browser.contexts:
            context.close()

    def open(self, url: str, *, ready: str = "main select", **how: Any) -> Visit:
        page = self.browser.new_context(**{"viewport": {"width": 1200, "height": 850}, **how}).new_page()
        page.set_default_timeout(LATE)
        visit = Visit(page)
        page.on("request", lambda request: visit.requests.append(request.url))
        page.on("console", lambda said: visit.faults.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: visit.faults.append(str(error)))
        page.goto(url)
        page.wait_for_selector(ready)
        if ready == "main select":
            page.locator("main option").first.wait_for(state="attached")
        return visit

    def asking(self, url: str, question: str, model: str = "") -> Visit:
        visit = self.open(url)
        if model:
            visit.choose(model)
        visit.ask(question)
        return visit
