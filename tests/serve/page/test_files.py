"""The files of the page: libraries are those that were published, and no code of ours writes markup."""

from __future__ import annotations

import hashlib
import json
import re
from importlib.resources import files
from pathlib import Path

from redraft.chain import Step
from redraft.revision.words import STOPS, why_cut

STATIC = Path(str(files("redraft.serve.page"))) / "static"
VENDOR = STATIC / "vendor"
LIBRARIES = json.loads((VENDOR / "vendor.json").read_text("utf-8"))


def test_libraries_are_as_their_authors_published_them() -> None:
    listed = {name: part for library in LIBRARIES.values() for name, part in library["files"].items()}
    for name, part in listed.items():
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == part["sha256"], name
    there = {str(path.relative_to(VENDOR)) for path in VENDOR.rglob("*") if path.is_file()}
    assert there == {*listed, "vendor.json"}


def test_each_library_has_its_licence_beside_it() -> None:
    for library in LIBRARIES.values():
        [licence] = [name for name in library["files"] if name.startswith("LICENSE")]
        assert (VENDOR / licence).stat().st_size > 500
        assert re.fullmatch(r"\d+\.\d+\.\d+", library["version"])


def test_scripts_write_no_markup_and_ask_no_other_host() -> None:
    for script in STATIC.glob("*.js"):
        code = script.read_text("utf-8")
        assert not re.search(
            r"innerHTML =|outerHTML =|insertAdjacentHTML|dangerously|\beval\(|https?://", code
        ), script
        assert code.count("\n") <= 700


def test_the_page_and_the_terminal_say_the_same_of_an_end() -> None:
    page = (STATIC / "chain.js").read_text("utf-8")
    cut = [why_cut(Step(answer="", finish=finish)) for finish in ("filtered", "lost")]
    said = {*STOPS.values(), *cut} - {STOPS["cancelled"]}  # on the page: it was stopped
    assert {words for words in said if f'"{words}"' not in page} == set()
