"""Measure the promises of evaluation: exact figures, honest intervals, and a report on many reviews.

    python benchmarks/evaluate.py          writes results/evaluate.json
    python benchmarks/evaluate.py --only many
    python benchmarks/evaluate.py --quick  few reviews and simulations, nothing written

The released figures need the shared data beside the checkout; the page needs Playwright and Chromium.
"""

from __future__ import annotations

import sys

import evaluate_coverage
import evaluate_reviews
from report import main, sized

ROWS = {
    "figures": sized(evaluate_reviews.figures, (1, 1), (1, 1)),
    "scores": sized(evaluate_reviews.scores, (1, 1), (1, 1)),
    "many": sized(evaluate_reviews.many, (100_000, 3), (1_000, 1)),
    "page": sized(evaluate_reviews.browser, (2_000, 5), (100, 1)),
    "coverage": sized(evaluate_coverage.coverage, (10_000, 1), (50, 1)),
}

if __name__ == "__main__":
    sys.exit(main("benchmarks/evaluate.py", __doc__, ROWS))
