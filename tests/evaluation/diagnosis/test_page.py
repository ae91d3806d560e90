"""The page of a diagnosis: whole, without scripts, and safe whatever ids and groups say."""

from __future__ import annotations

import pytest

pytest.importorskip("scipy")

from redraft.evaluation.diagnosis.diagnose import chains_of, diagnose, page
from redraft.evaluation.reports.chains import Links
from tests.evaluation.diagnosis.made_chains import told
from tests.evaluation.pages.reading import BAD, read


def test_the_page_has_the_sentence_the_figures_and_the_pictures() -> None:
    chains = [told(str(n), "01", "ra", guide="01") for n in range(8)]
    reader = read(page(diagnose(chains), "made by a test"))
    text = " ".join(reader.text)
    for part in ("Revising does better here: it adds 100.0 points", "1 revision at most", "ECR"):
        assert part in text, part
    assert "made by a test" in text
    assert reader.scripts == []
    assert reader.policy.startswith("default-src 'none'")
    assert "script-src" not in reader.policy
    assert "Nothing was revised" in " ".join(read(page(diagnose([told("a", "1")]), "")).text)


def test_the_page_lists_what_was_repaired_and_broken() -> None:
    chains = [told("a", "01"), told("b", "10"), *[told(f"c/{n}", "01") for n in range(60)]]
    html = page(diagnose(chains), "", Links("x.chains.html"))
    assert 'href="x.chains.html#a"' in html
    assert 'href="x.chains.html#only%3Dwrong%20%E2%86%92%20right">11 more' in html
    assert html.count("href") == 50 + 1 + 1
    assert "href" not in page(diagnose(chains), "")
    assert [entry.kinds for entry in chains_of(diagnose(chains))[:2]] == [
        ["wrong → right"],
        ["right → wrong"],
    ]


def test_no_name_becomes_markup() -> None:
    chains = [
        told(BAD, "10", task=BAD),
        told(f"{BAD}2", "0", best=None),
    ]
    html = page(diagnose(chains), BAD)
    assert read(html).scripts == []
    assert "<img" not in html
