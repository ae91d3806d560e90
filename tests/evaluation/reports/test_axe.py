"""axe finds nothing wrong on the pages of reports, light and dark, small and large."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("vl_convert")

from redraft.evaluation.reports.chains import Links
from redraft.evaluation.reports.report import chains_of, describe, page
from tests.browser import chromium
from tests.evaluation.diagnosis.made_chains import told
from tests.serve.page.test_axe import found

pytestmark = pytest.mark.slow
LOOKS: list[tuple[int, Any]] = [(390, "dark"), (768, "light"), (1280, "dark"), (1280, "light")]


def test_nothing_is_wrong_on_the_pages_of_reports(tmp_path: Path) -> None:
    chains = [told(str(n), ("01", "10", "1", "001")[n % 4], "r") for n in range(12)]
    runs, whole = tmp_path / "runs.jsonl", tmp_path / "report.html"
    runs.write_text("".join(f"{chain.to_json()}\n" for chain in chains))
    links = Links.write(whole, "Chains", [*chains_of(report := describe([runs]))], "made", force=False)
    whole.write_text(page(report, "made", links))
    with chromium() as browser:
        for width, look in LOOKS:
            size: Any = {"width": width, "height": 850}
            seen = browser.new_context(viewport=size, color_scheme=look, bypass_csp=True).new_page()
            for file in tmp_path.glob("*.html"):
                seen.goto(file.as_uri())
                assert found(seen) == [], (file, width, look)
