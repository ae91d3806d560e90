"""The site of `make docs`: no warning while it is built; it needs no other machine, and axe finds nothing."""

from __future__ import annotations

import functools
import http.server
import itertools
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser import chromium
from tests.serve.page.test_axe import found
from tests.test_docs import PAGES, ROOT, name_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Links and their anchors are checked by MkDocs, whose warnings are errors here."""
    pytest.importorskip("mkdocs", reason="MkDocs is not installed: `make docs` installs it")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert (done.stdout + done.stderr, done.returncode) == ("", 0)
    return folder


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    handler = functools.partial(Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_llms_txt_lists_the_markdown_of_each_page(site: Path) -> None:
    listed = set(re.findall(r"^- \[[^]]+\]\((\S+\.md)\): \S", (site / "llms.txt").read_text("utf-8"), re.M))
    assert {"index.md", *(name_of(page).removeprefix("docs/") for page in PAGES[1:])} <= listed
    for page in listed:
        links = re.findall(r"\]\((?!\w+:|#)([^)#\s]+)", (site / page).read_text("utf-8"))
        assert [link for link in links if not ((site / page).parent / link).exists()] == []


def test_what_a_model_printed_is_called_an_example(site: Path) -> None:
    said = [f"{name}/index.html" for name in ("train", "weights", "generate", "rlhf")]
    assert [
        page for page in said if "Example output, yours will differ" not in (site / page).read_text("utf-8")
    ] == []
    assert "Example output" not in (site / "api" / "chain" / "index.html").read_text("utf-8")


def test_nothing_comes_from_elsewhere_and_axe_finds_nothing(site: Path, address: str) -> None:
    """Each page, as a browser loads it, light or dark; then a search, which a worker answers."""
    looks = itertools.cycle([(390, "dark"), (1280, "light"), (390, "light"), (1280, "dark")])
    with chromium() as opened:
        browser = opened.new_page()
        for page, (width, look) in zip(sorted(site.rglob("index.html")), looks, strict=False):
            browser.set_viewport_size({"width": width, "height": 850})
            browser.emulate_media(color_scheme=look)
            browser.goto(f"{address}{page.parent.relative_to(site)}/")
            loaded = browser.evaluate("performance.getEntriesByType('resource').map(each => each.name)")
            assert loaded
            assert [name for name in loaded if not name.startswith((address, "data:"))] == []
            assert found(browser) == [], (page, width, look)
        browser.goto(address)
        browser.evaluate("document.querySelector('.md-search__input').focus()")
        browser.keyboard.insert_text("steer")
        first = "document.querySelector('.md-search-result__link')?.href"
        browser.wait_for_function(first)
        assert "/checks/" in browser.evaluate(first)  # and not the results, which say it more often
        dark = "document.body.dataset.mdColorScheme === 'slate'"
        browser.emulate_media(color_scheme="dark")
        browser.wait_for_function(dark)
