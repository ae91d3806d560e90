"""The site of `make docs`: no warning while it is built; a browser needs no other machine for it."""

from __future__ import annotations

import functools
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser import chromium
from tests.test_docs import PAGES, ROOT

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


def test_each_page_can_be_searched(site: Path) -> None:
    index = json.loads((site / "search" / "search_index.json").read_text("utf-8"))
    found = {entry["location"].split("#")[0].strip("/") for entry in index["docs"] if entry["text"]}
    pages = {str(page.relative_to(ROOT).with_suffix("")).removeprefix("docs/") for page in PAGES}
    assert pages - {"README"} <= found
    assert "" in found  # README.md is the first page


def test_what_a_model_printed_is_called_an_example(site: Path) -> None:
    said = [f"{name}/index.html" for name in ("train", "weights", "generate", "rlhf")]
    assert [
        page for page in said if "Example output, yours will differ" not in (site / page).read_text("utf-8")
    ] == []
    assert "Example output" not in (site / "api" / "chain" / "index.html").read_text("utf-8")


def test_nothing_comes_from_elsewhere(site: Path, address: str) -> None:
    """Each page, as a browser loads it; then a search, which a worker answers."""
    with chromium() as opened:
        browser = opened.new_page()
        for page in site.rglob("index.html"):
            browser.goto(f"{address}{page.parent.relative_to(site)}/")
            loaded = browser.evaluate("performance.getEntriesByType('resource').map(each => each.name)")
            assert loaded
            assert [name for name in loaded if not name.startswith((address, "data:"))] == []
        browser.goto(address)
        browser.evaluate("document.querySelector('.md-search__input').focus()")
        browser.keyboard.insert_text("steer")
        browser.wait_for_function("document.querySelector('.md-search-result__link[href*=checks]')")
        dark = "document.body.dataset.mdColorScheme === 'slate'"
        browser.emulate_media(color_scheme="dark")
        browser.wait_for_function(dark)
