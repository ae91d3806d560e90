"""docs/api/ and docs/options.md say what docstrings, signatures and options say today."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import redraft
from redraft.options import OptionModel

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted((ROOT / "docs" / "api").glob("*.md"))


@pytest.fixture(scope="module")
def reference() -> Any:
    return SimpleNamespace(**runpy.run_path(str(ROOT / "scripts" / "api_reference.py")))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_is_current(reference: Any, page: Path) -> None:
    assert page.read_text("utf-8") == reference.page(page), "run: make docs"


def test_the_page_of_options_is_current(reference: Any) -> None:
    assert reference.OPTIONS_PAGE.read_text("utf-8") == reference.options_page(), "run: make docs"


def test_each_public_name_has_one_place() -> None:
    text = "".join(page.read_text("utf-8") for page in PAGES)
    told = re.findall(r"^<!-- redraft\.(\w+) -->$", text, re.M)
    assert sorted(told) == sorted({*dir(redraft)} - {"__version__"})


def test_each_option_stands_once(reference: Any) -> None:
    groups: set[type[OptionModel]] = set()
    for model in reference.USED_BY.values():
        groups |= set(reference.groups_of(model))
    titles = [reference.title_of(group) for group in groups]
    assert sorted(re.findall(r"^## (.+)$", reference.options_page(), re.M)) == sorted(titles)
    assert len(set(titles)) == len(titles)


def test_no_argument_is_without_its_meaning(reference: Any) -> None:
    for name in {*dir(redraft)} - {"__version__", "Event"}:
        doc = reference.doc_of(getattr(redraft, name))
        assert not re.search(r"^(Args|Raises|Attributes|Returns):", doc.text, re.M), name
        assert all(text for items in doc.sections.values() for text in items.values()), name
