"""Draw the pictures of the pages from real runs: docs/ask.svg, docs/page.png and others.

    python scripts/pictures.py [ask] [page] [report] [system] [vote] [runs] [first]

Nothing in the pictures is written by hand. `ask` records the terminal of `make demo`, and `page` asks the
same question in Chromium. `report` and `vote` show reviews and answers that SelFee's authors published, from
the shared data (CONTRIBUTING.md). `system` makes a small SelFee. For `runs` (chains.png), the default model
answers some of Vicuna's questions. `first` draws a chart of measured figures. Answers differ between
machines, so `make docs` draws no pictures. Each picture contains a digest of the files that decide its look,
so that a test notices when these change.
"""

from __future__ import annotations

import ast
import asyncio
import hashlib
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image, PngImagePlugin
from playwright.sync_api import Page, sync_playwright
from rich.console import Console
from rich.text import Text as RichText

import redraft
from redraft.cli.watch import Watch
from redraft.evaluation.stats import proportion
from redraft.revision.ops import Progress, Text

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
SHOWS = {
    "ask.svg": ("cli/watch.py", "cli/render.py"),
    "page.png": ("serve/page/static/*.*",),
    "vote.png": ("serve/page/static/*.*",),
    "report.png": ("evaluation/pages/*.*",),
    "chains.png": ("evaluation/pages/*.*",),
    "run.png": ("evaluation/pages/*.*",),
    "first_texts.svg": ("../../benchmarks/results/steer.json",),
}
"""The files, seen from src/redraft, that decide each picture's look. Docstrings and comments do not."""
SHARED = Path(os.environ.get("REDRAFT_SHARED", ROOT.parent / "shared"))
REDRAFT = [sys.executable, "-m", "redraft"]
PROMPT = "Describe a lighthouse."
CHECK = "words<=30"
PATCHED = "--check lacks:hope --no-steer --no-tell-checks --temperature 0"  # a patch of one word
FLAGS = "--mode verified --no-steer --no-tell-checks --temperature 0 --steps"
WIDTH = 92  # columns of the terminal
WAYS = {
    "steered": "redraft, steered",
    "plain": "the model alone",
    "mellea": "mellea",
    "instructor": "instructor",
}
PANELS = (
    ("IFEval, {}: pass", "pass IFEval's constraints"),
    ("everyday, {}: pass", "pass everyday demands"),
    ("everyday, {}: end whole", "are complete"),
)
LABELS, PANEL, SCALE = 130, 240, 1.75  # pixels of the names, of a panel, and of one per cent
STYLE = """text{font:14px system-ui,sans-serif;fill:#202226}.head{font-weight:600}.label{text-anchor:end}
.ours{fill:#4f83ba}.theirs{fill:#b4bec9}.interval{stroke:#202226;stroke-width:1.5}
@media(prefers-color-scheme:dark){text{fill:#e6e4df}.ours{fill:#7fb0e2}.theirs{fill:#565f6b}.interval{stroke:#e6e4df}}"""
SIZE = {"width": 1000, "height": 720}  # pixels of the window


def mark_of(name: str) -> str:
    """Return the mark of a picture: a digest of the files that decide its look."""
    digest = hashlib.sha256()
    for file in sorted(file for pattern in SHOWS[name] for file in (ROOT / "src" / "redraft").glob(pattern)):
        digest.update(_without_docstrings(file) if file.suffix == ".py" else file.read_bytes())
    return f"shows {digest.hexdigest()}"


def _without_docstrings(file: Path) -> bytes:
    tree = ast.parse(file.read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value.value = ""
    return ast.dump(tree).encode()


class Folding(Console):
    """A console that folds long lines, as a terminal does. In SVG they would be cut."""

    def print(self, *parts: object, **how: Any) -> None:
        """Print, and fold long lines."""
        super().print(*parts, **{**how, "soft_wrap": False})


async def draw_ask() -> None:
    """Run the command of `make demo` and keep the terminal as SVG."""
    console = Folding(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, highlight=False)
    typed = f"redraft ask \"{PROMPT}\" --check '{CHECK}' \\\n    {FLAGS}\n"
    console.print(RichText.assemble(("$ ", "green"), typed))
    how = {"mode": "verified", "steer": False, "tell_checks": False, "temperature": 0}
    with Watch(console) as watch:
        async for event in redraft.stream(PROMPT, checks=[CHECK], **how):
            if not isinstance(event, Text | Progress):  # changing parts would be drawn repeatedly
                watch.show(event)
    drawn = f"{console.export_svg(title='redraft ask')}<!-- {mark_of('ask.svg')} -->\n"
    (DOCS / "ask.svg").write_text(drawn, encoding="utf-8")


def draw_page() -> None:
    """Ask on the page of `redraft serve`, and open the revision that became the answer."""
    serve = [*REDRAFT, "serve", "--model", "default", "--engine", "llamacpp", "--port", "0"]
    with subprocess.Popen([*serve, *PATCHED.split()], stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr
        said = "".join(server.stderr.readline() for _ in range(3))
        found = re.search(r"The page: (\S+)", said)
        assert found, said
        with window(found[1]) as page:
            page.locator("main option").first.wait_for(state="attached", timeout=60_000)
            page.fill("#box", PROMPT)
            page.press("#box", "Enter")
            page.locator(".final").wait_for(timeout=120_000)
            page.locator(".actions").wait_for()
            page.wait_for_timeout(1000)  # the page no longer follows the answer
            page.locator("details.path > summary").click()
            page.locator("details.step:has(.pill.best) > summary").click()
            keep(page, "page.png")
        server.terminate()


def draw_report() -> None:
    """Draw the report on the published reviews."""
    reviews = SHARED / "data" / "selfee" / "reviews"
    names = sorted(path.name for path in reviews.glob("*.jsonl"))
    with TemporaryDirectory() as folder:
        run("report", *names, "--html", Path(folder, "report.html"), cwd=reviews)
        show(Path(folder, "report.html"), "report.png")


def show(file: Path, name: str) -> None:
    """Save a picture of an HTML file."""
    with window(file.as_uri()) as page:
        keep(page, name)


def run(*words: object, cwd: Path | str | None = None) -> None:
    """Run redraft. Exit status 1 (an answer does not pass) is allowed."""
    done = subprocess.run([*REDRAFT, *map(str, words)], stdout=subprocess.DEVNULL, cwd=cwd)
    assert done.returncode in (0, 1), words


RULE = """
import re, redraft

def plain(answer):
    found = [each.span() for each in re.finditer(r"(?i)\\b(can|could|various|ensure)\\b", answer)]
    return redraft.failed("It has empty words.", places=found) if found else True
"""


def draw_runs() -> None:
    """Draw chains of the default model, with a user's own check."""
    questions = SHARED / "data" / "questions" / "vicuna_80.jsonl"
    flags = ("--check", "sentences<=3", "--check", "python:rules.plain", "--max-tokens", 160, "--seed", 1)
    with TemporaryDirectory() as name:
        chains, page = Path(name, "chains.jsonl"), Path(name, "chains.html")
        Path(name, "rules.py").write_text(RULE)
        run("answer", questions, "-o", chains, "--limit", 12, "--quiet", *flags, cwd=name)
        run("show", chains, "--html", page)
        show(page, "chains.png")


def draw_system() -> None:
    """Make a small SelFee with one command, and draw the page of the run."""
    with TemporaryDirectory() as folder:
        run("run", "selfee", "--small", cwd=Path(folder))
        show(Path(folder, "selfee-small", "index.html"), "run.png")


def draw_vote() -> None:
    """Draw the page that shows a voter a pair of published answers."""
    folder = SHARED / "data" / "selfee" / "answers"
    answers = [folder / f"{name}.jsonl" for name in ("selfee_13b_enforce_3_revisions", "chatgpt")]
    questions = SHARED / "data" / "questions" / "vicuna_80.jsonl"
    with TemporaryDirectory() as name:
        votes = ("-o", f"{name}/votes.jsonl", "--questions", str(questions))
        command = [*REDRAFT, "vote", *map(str, answers), *votes]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
            assert server.stderr
            found = re.search(r"vote at (\S+)", server.stderr.readline())
            assert found
            with window(found[1]) as page:
                page.get_by_role("textbox").fill("ann")
                page.get_by_role("button", name="Start").click()
                page.get_by_role("button", name="Start").wait_for(state="detached", timeout=60_000)
                keep(page, "vote.png")
            server.terminate()


def draw_first() -> None:
    """Draw the shares of first texts that pass or are complete, as bars with 95 % intervals."""
    rows = json.loads((ROOT / "benchmarks" / "results" / "steer.json").read_text("utf-8"))["rows"]
    row = next(each for each in rows if each["measure"] == "first texts, and how they read")
    shares = {each["what"]: median(each["values"]) for each in row["figures"]}
    body = list[str]()
    for place, (kind, title) in enumerate(PANELS):
        left = LABELS + place * PANEL
        body.append(f'<text class="head" x="{left}" y="22">{title}</text>')
        for line, (way, name) in enumerate(WAYS.items()):
            share, top = shares[kind.format(way)], 38 + line * 30
            found = proportion(share, 100)
            low, high = 100 * found.low, 100 * found.high
            kept = "ours" if way == "steered" else "theirs"
            x = [left + each * SCALE for each in (low, high)]
            size = f'width="{share * SCALE:.1f}" height="18"'
            bar = f'<rect class="{kept}" x="{left}" y="{top}" {size} rx="2"/>'
            interval = f'<path class="interval" d="M{x[0]:.1f} {top + 9}H{x[1]:.1f}"/>'
            value = f'<text x="{x[1] + 6:.1f}" y="{top + 14}">{share:.0f} %</text>'
            label = f'<text class="label" x="{LABELS - 10}" y="{top + 14}">{name}</text>' * (place == 0)
            body += [label, bar, interval, value]
    size = f'viewBox="0 0 {LABELS + len(PANELS) * PANEL} {44 + 30 * len(WAYS)}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img"><style>{STYLE}</style>'
    text = "\n".join([head, f"<!-- {mark_of('first_texts.svg')} -->", *filter(None, body), "</svg>\n"])
    (DOCS / "first_texts.svg").write_text(text, encoding="utf-8")


@contextmanager
def window(url: str) -> Iterator[Page]:
    """Yield a page of Chromium that shows an address."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(viewport=SIZE)
        page.goto(url)
        yield page
        browser.close()


def keep(page: Page, name: str) -> None:
    """Save a picture of the window in 64 colours, which are nearly always enough."""
    page.evaluate("window.scrollTo(0, 0)")
    page.mouse.move(0, 0)
    page.wait_for_timeout(500)
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB").quantize(64)
    about = PngImagePlugin.PngInfo()
    about.add_text("Comment", mark_of(name))
    picture.save(DOCS / name, optimize=True, pnginfo=about)


DRAWN = {
    "page": draw_page,
    "report": draw_report,
    "system": draw_system,
    "vote": draw_vote,
    "runs": draw_runs,
    "first": draw_first,
}

if __name__ == "__main__":
    for wanted in sys.argv[1:] or ["ask", *DRAWN]:
        if wanted == "ask":
            asyncio.run(draw_ask())
        else:
            DRAWN[wanted]()
