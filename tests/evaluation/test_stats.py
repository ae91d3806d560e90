"""Each statistic against known values, and by simulation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("scipy")

from redraft.evaluation import stats  # noqa: E402  (needs the extra)
from redraft.evaluation.stats import Estimate, Judged  # noqa: E402
from redraft.evaluation.tables import p_text, p_value  # noqa: E402


def test_a_difference_is_that_of_pairs() -> None:
    found = stats.difference([0] * 20 + [1] * 80, [1] * 100)
    assert found.value == pytest.approx(0.2)
    # A share of 20 in 100, by the normal approximation: 20 ± 1.96 * 4.
    assert found.low == pytest.approx(0.122, abs=0.015)
    assert found.high == pytest.approx(0.278, abs=0.015)
    with pytest.raises(ValueError, match="same shape"):
        stats.difference([1], [1, 2])


@pytest.mark.parametrize(
    ("better", "worse", "low", "high"), [(0, 0, -9, 9), (1, 0, -6, 16), (30, 0, 81, 100)]
)
def test_of_few_changes_the_interval_counts_what_none_of_them_was(
    better: int, worse: int, low: int, high: int
) -> None:
    found = stats.change(
        [0] * better + [1] * worse + [0] * (30 - better - worse), [1] * better + [0] * (30 - better)
    )
    assert found.value == pytest.approx((better - worse) / 30)
    assert (100 * found.low, 100 * found.high) == pytest.approx((low, high), abs=1)
    assert math.isnan(stats.change([], []).value)


def test_clusters_are_resampled_whole() -> None:
    values, questions = [0.0, 1.0] * 50, list(range(100))
    apart = stats.mean(values, questions)
    repeated = stats.mean(values * 4, questions * 4)
    # Asking the same questions four times over says nothing new.
    assert repeated == apart
    assert stats.mean(values * 4).high < apart.high


@pytest.mark.parametrize("rows", [[], [[3.0, 4.0]]])
def test_of_no_or_one_question_a_figure_without_bounds_has_no_interval(rows: list[list[float]]) -> None:
    found = stats.Bootstrap(np.reshape(rows, (-1, 2))).estimate(stats.ratio_of)
    assert math.isnan(found.value) == (not rows)
    assert math.isnan(found.low)


@pytest.mark.parametrize("count", [1, 2, 5, 30])
def test_where_all_questions_agree_the_interval_is_that_of_those_that_may_not(count: int) -> None:
    found = stats.mean([1.0] * count, bounds=stats.SHARE)
    assert (found.value, found.high) == (1, 1)
    assert found.low == pytest.approx(0.025 ** (1 / count)), "Clopper and Pearson's, of a share"
    same = stats.difference([0.5] * count, [0.5] * count, bounds=stats.CHANGE)
    assert same.low == -same.high == pytest.approx(found.low - 1)
    without = ratio([9.0] * count, [8.1] * count)
    assert without.value == pytest.approx(9 / 8.1)
    assert math.isnan(without.low), "a ratio of anything has no bounds"


@pytest.mark.parametrize(
    ("count", "t", "near"),
    [(2, 12.706205, 1e-4), (5, 2.776445, 1e-5), (19, 2.100922, 1e-5), (30, 2.045230, 0.04)],
)
def test_the_interval_of_a_mean_is_students_for_normal_numbers(count: int, t: float, near: float) -> None:
    """With 30, it is that of resamples: without expansion it would be 0.08 narrower at each end."""
    values = np.random.default_rng(3).normal(10, 2, size=count)
    half = t * values.std(ddof=1) / math.sqrt(count)
    found = stats.mean(values.tolist())
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=near)


def test_where_one_of_few_questions_decides_all_between_the_bounds_is_possible() -> None:
    one_wrong = [Judged(accepted=1, right=1)] * 4 + [Judged(rejected=1, wrong=1)]
    assert stats.balanced(one_wrong) == Estimate(1.0, 0.0, 1.0)


@pytest.mark.parametrize(
    ("hits", "of", "low", "high"),
    [
        (0, 10, 0.0, 0.27753280),
        (10, 10, 0.72246720, 1.0),
        (1, 1, 0.20654931, 1.0),
        (3, 80, 0.01283457, 0.10454720),
        (81, 263, 0.25528852, 0.36620958),
    ],
)
def test_a_proportion_has_wilsons_interval(hits: int, of: int, low: float, high: float) -> None:
    found = stats.proportion(hits, of)
    assert found.value == hits / of
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-8)


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (5, 0), (0, 5), (3, 3), (8, 2), (120, 300), (300, 299)])
def test_mcnemar_is_the_exact_binomial_test(wins: int, losses: int) -> None:
    before = [False] * wins + [True] * losses + [True] * 7
    after = [True] * wins + [False] * losses + [True] * 7
    count = wins + losses
    tail = sum(math.comb(count, n) for n in range(min(wins, losses) + 1))
    assert stats.paired(before, after) == pytest.approx(min(1, 2 * tail / 2**count))


def test_correlation_is_pearsons_whatever_the_unit() -> None:
    x = np.random.default_rng(1).normal(size=200)
    y = x + np.random.default_rng(2).normal(size=200)
    found = stats.correlation(x.tolist(), y.tolist())
    assert found.value == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert stats.correlation((1e9 + 1e3 * x).tolist(), (-y).tolist()).value == pytest.approx(-found.value)
    # Fisher's z gives nearly the same interval for normal numbers.
    ends = np.tanh(np.arctanh(found.value) + np.array([-1.96, 1.96]) / math.sqrt(197))
    assert (found.low, found.high) == pytest.approx(tuple(ends), abs=0.03)
    assert math.isnan(stats.correlation([1.0] * 9, list(range(9))).value)
    assert math.isnan(stats.correlation([], []).value)


def test_numbers_that_differ_by_rounding_only_do_not_correlate() -> None:
    x, y = [0.1] * 7, [0.3, 0.1, 0.7, 0.2, 0.9, 0.4, 0.6]
    sums = np.sum([[1, a, b, a * a, b * b, a * b] for a, b in zip(x, y, strict=True)], axis=0)
    assert sums[3] - sums[1] ** 2 / 7 != 0
    assert math.isnan(stats.correlation_of(sums))


def test_balanced_accuracy_shows_a_collapse_that_plain_accuracy_hides() -> None:
    assert stats.balanced([Judged(accepted=1, right=1)] * 90 + [Judged(wrong=1)] * 10).value == 0.5
    assert stats.balanced([Judged(accepted=1, right=1), Judged(rejected=1, wrong=1)] * 50).value == 1
    assert math.isnan(stats.balanced([Judged(accepted=1, right=1)]).value)
    assert math.isnan(stats.balanced([]).value)


def drawn_wins(rng: object, count: int, even: float, slope: float) -> tuple[list[float], list[float]]:
    """Wins that depend on the length alone by so much, and at equal length have a chance of `even`."""
    gap = rng.normal(200, 300, size=count)  # type: ignore[attr-defined]
    chance = 1 / (1 + np.exp(-(math.log(even / (1 - even)) + slope * np.tanh(gap / 300))))
    return (rng.random(count) < chance).astype(float).tolist(), gap.tolist()  # type: ignore[attr-defined]


def test_a_win_rate_that_is_due_to_length_is_taken_back() -> None:
    wins, gap = drawn_wins(np.random.default_rng(8), 4000, 0.5, 2.0)
    assert sum(wins) / len(wins) > 0.62
    found = stats.length_controlled(wins, gap)
    assert found.low < 0.5 < found.high
    assert found.high - found.low < 0.08
    # Without an influence of length it is the win rate itself.
    even = stats.length_controlled([1, 0, 0, 1, 1, 0, 0, 1], [1, 1, -1, -1, 2, 2, -2, -2])
    assert even.value == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("wins", "gap"),
    [
        ([1, 1, 1, 1], [1, 2, 3, 4]),
        ([1, 0, 1, 0], [2, 2, 2, 2]),
        ([0, 0, 1, 1], [-2, -1, 1, 2]),
        ([], []),
        ([1], [3]),
    ],
)
def test_where_length_cannot_be_told_apart_there_is_no_controlled_rate(
    wins: list[float], gap: list[float]
) -> None:
    assert math.isnan(stats.length_controlled(wins, gap).value)


def ratio(above: Sequence[float], below: Sequence[float]) -> Estimate:
    return stats.Bootstrap(np.stack([above, below], axis=-1)).estimate(stats.ratio_of, scale="ratio")


def coverage(draw: Callable[[object], Estimate], truth: float, times: int) -> float:
    rng = np.random.default_rng(11)
    return sum((found := draw(rng)).low <= truth <= found.high for _ in range(times)) / times


def of_few(rng: object, kind: str, count: int) -> Estimate:
    first, second = rng.normal(size=(2, count))  # type: ignore[attr-defined]
    before, after = (first > 0).astype(float), (0.7 * first + 0.714 * second > -0.5).astype(float)
    if kind == "mean":
        return stats.mean((10 + first).tolist())
    if kind == "ratio":
        return ratio((8 + 0.5 * first).tolist(), (8 + 0.5 * second).tolist())
    if kind == "correlation":
        return stats.correlation(first.tolist(), (first + second).tolist())
    if kind == "difference of shares":
        return stats.change(before.tolist(), after.tolist())
    runs = [*before.tolist(), *after.tolist()]
    return stats.proportions(runs, [1] * len(runs), [*range(count)] * 2)


FEW_TRUTHS = {
    "mean": 10,
    "ratio": 1,
    "correlation": math.sqrt(0.5),
    "difference of shares": 0.1915,
    "share of two runs each": 0.59575,
}


@pytest.mark.parametrize("count", [3, 5])
@pytest.mark.parametrize("kind", FEW_TRUTHS)
def test_intervals_of_few_questions_hold_what_they_promise(kind: str, count: int) -> None:
    """By resamples, those of 3 to 5 questions hold the truth in 43 to 93 of 100 cases."""
    assert coverage(lambda rng: of_few(rng, kind, count), FEW_TRUTHS[kind], 400) >= 0.925


def test_the_controlled_rate_holds_what_it_promises() -> None:
    def draw(rng: object) -> Estimate:
        return stats.length_controlled(*drawn_wins(rng, 160, 0.6, 1.0))

    assert 0.92 <= coverage(draw, 0.6, 600) <= 0.98


def test_a_share_of_independent_trials_is_wilsons_and_one_of_clusters_is_wider() -> None:
    hits, trials = [1.0, 0, 1, 0, 0], [1.0, 1, 1, 0, 1]
    assert stats.proportions(hits, trials) == stats.proportion(2, 4)
    assert stats.proportions(hits, trials, list("abcde")) == stats.proportion(2, 4)
    assert stats.proportions([2] * 30, [2] * 30) == stats.proportion(30, 30), "as of one trial each"
    assert math.isnan(stats.proportions([0], [0]).value)
    assert math.isnan(stats.proportions([], []).value)
    # Thirty items with four equal trials each are thirty observations and not 120.
    hits = [float(item % 3 == 0) for item in range(30) for _ in range(4)]
    found = stats.proportions(hits, [1] * 120, [item for item in range(30) for _ in range(4)])
    alone = stats.proportion(40, 120)
    assert found.value == pytest.approx(1 / 3)
    assert found.high - found.low > 1.6 * (alone.high - alone.low)


def test_a_share_of_few_clusters_of_unequal_size_holds_what_it_promises() -> None:
    """One of 20 trials that agree weighs as much as twenty others. Counted as one, 67 % held the truth."""
    rng, held = np.random.default_rng(5), 0
    for _ in range(400):
        trials = rng.choice([1, 1, 1, 20], 12)
        found = stats.proportions((trials * (rng.random(12) < 0.5)).tolist(), trials.tolist())
        held += found.low <= 0.5 <= found.high
    assert held / 400 >= 0.93


def test_the_test_of_pairs_is_mcnemars_for_0_and_1_and_agrees_with_it_in_other_units() -> None:
    before, after = [0] * 9 + [1] * 2 + [1] * 9, [1] * 9 + [0] * 2 + [1] * 9
    exact = stats.paired(before, after)
    assert stats.paired([x / 2 for x in before], [x / 2 for x in after]) == pytest.approx(exact, abs=0.01)
    assert stats.paired(after, before) == exact
    assert stats.paired([0.5, 0.2], [0.5, 0.2]) == 1
    assert stats.paired([], []) == 1


def test_the_test_of_pairs_keeps_its_level_and_goes_through_all_flips_of_few() -> None:
    rng = np.random.default_rng(5)
    p = [stats.paired(*rng.beta(1, 1, size=(2, 12)), draws=400) for _ in range(300)]
    assert 0.02 < sum(each < 0.05 for each in p) / 300 < 0.08
    # All 2⁵ signs of 1, 2, 3, 4 and 5 tenths: 5 are as great as that of +1 +2 -3 +4 +5 or greater, each way.
    assert stats.paired([0, 0, 0.3, 0, 0], [0.1, 0.2, 0, 0.4, 0.5]) == 10 / 32


def test_the_least_p_of_random_flips_is_a_bound() -> None:
    many = stats.paired([0.25] * 40, [0.75] * 40)
    assert (many, p_value(many), p_text(many)) == (stats.LEAST, "≤ 0.0001", "p ≤ 0.0001")
    assert (p_value(0.0001), p_text(0.325)) == ("0.0001", "p = 0.33")


@pytest.mark.parametrize("pairs", [3, 14, 40])
def test_of_a_score_that_is_no_number_there_is_no_p(pairs: int) -> None:
    assert math.isnan(stats.paired([0.1] * pairs, [math.nan, *(0.5 + n / 100 for n in range(pairs - 1))]))
    p = stats.holm([math.nan, 0.01, 0.02])
    assert math.isnan(p[0])
    assert p[1:] == [0.02, 0.02]


def test_holms_correction_is_that_of_the_textbook() -> None:
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert (stats.holm([0.7, 0.6]), stats.holm([])) == ([1, 1], [])


def test_resamples_are_those_drawn_one_by_one() -> None:
    table = np.random.default_rng(9).random((700, 3))
    rng = np.random.default_rng(4)
    one_by_one = [table[rng.integers(0, 700, size=700)].sum(axis=0) for _ in range(1500)]
    assert stats.Bootstrap(table, draws=1500, seed=4).drawn == pytest.approx(np.array(one_by_one))
