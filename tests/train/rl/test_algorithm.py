"""Each function against loops written from the formulas, what must not change it, and the edges."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from redraft.train.rl import algorithm
from tests.train.rl import loops
from tests.train.rl.loops import Batch, Ragged, flat, random_batch

NAN, INF = math.nan, math.inf
LENGTHS = st.lists(st.integers(0, 9), min_size=1, max_size=6)
SHARES = st.floats(0, 1)  # of discounts


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    return random_batch(draw(LENGTHS), draw(st.integers(0, 2**32)))


def padded(rows: Ragged, width: int | None = None, filler: float = NAN) -> Tensor:
    width = max(map(len, rows)) if width is None else width
    return torch.tensor(loops.padded(rows, width, filler), dtype=torch.float64).view(len(rows), width)


def mask_of(rows: Ragged, width: int | None = None) -> Tensor:
    return ~padded(rows, width).isnan()


def check(found: Tensor, rows: Ragged) -> None:
    mask = mask_of(rows, found.shape[1])
    assert found[mask].tolist() == pytest.approx(flat(rows), rel=1e-9, abs=1e-9)
    assert not found[~mask].any()


def losses(batch: Batch, advantages: Ragged, targets: Ragged, width: int | None = None) -> list[float]:
    mask = mask_of(advantages, width)
    given = [padded(rows, width) for rows in (batch.log_probs, batch.old_log_probs, advantages)]
    of_values = [padded(rows, width) for rows in (batch.values, batch.old_values, targets)]
    found = (*algorithm.policy_loss(*given, mask, 0.2), *algorithm.value_loss(*of_values, mask, 0.2))
    return [each.item() for each in found]


@given(st.integers(0, 2**32), st.floats(0.1, 3), st.integers(1, 7))
def test_log_probs_and_entropy_are_those_of_the_softmax(seed: int, temperature: float, chunk: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, 5, 11, generator=rng, dtype=torch.float64)
    tokens = torch.randint(11, (2, 5), generator=rng)
    log_probs, entropy = algorithm.log_probs_and_entropy(logits, tokens, temperature, chunk)
    for i in range(2):
        for t in range(5):
            row = logits[i, t].tolist()
            assert log_probs[i, t].item() == pytest.approx(
                loops.log_prob(row, int(tokens[i, t]), temperature)
            )
            assert entropy[i, t].item() == pytest.approx(loops.entropy(row, temperature))
    given, weights = logits.clone().requires_grad_(), torch.randn(2, 5, generator=rng, dtype=torch.float64)
    (algorithm.log_probs_and_entropy(given, tokens, temperature, chunk)[0] * weights).sum().backward()
    one_hot = torch.nn.functional.one_hot(tokens, 11)
    expected = (one_hot - (logits / temperature).softmax(-1)) * weights[..., None] / temperature
    torch.testing.assert_close(given.grad, expected)


@given(batches(), st.floats(0, 10))
def test_rewards_are_the_kl_penalty_and_the_score_at_the_end(batch: Batch, beta: float) -> None:
    found = algorithm.token_rewards(
        torch.tensor(batch.scores, dtype=torch.float64),
        padded(batch.old_log_probs),
        padded(batch.ref_log_probs),
        mask_of(batch.values),
        beta,
    )
    check(found, loops.rewards(batch.scores, batch.old_log_probs, batch.ref_log_probs, beta))


@given(batches(), SHARES, SHARES)
def test_advantages_are_sums_of_later_errors(batch: Batch, gamma: float, lam: float) -> None:
    rewards, mask = batch.old_log_probs, mask_of(batch.values)
    advantages, returns = algorithm.gae(padded(rewards), padded(batch.old_values), mask, gamma, lam)
    expected = loops.advantages(rewards, batch.old_values, gamma, lam)
    check(advantages, expected)
    check(returns, loops.returns(expected, batch.old_values))


@given(batches())
def test_losses_and_counts_of_clipped_tokens_are_those_of_the_formulas(batch: Batch) -> None:
    advantages, targets = batch.ref_log_probs, batch.log_probs
    expected = (
        *loops.policy_loss(batch.log_probs, batch.old_log_probs, advantages, 0.2),
        *loops.value_loss(batch.values, batch.old_values, targets, 0.2),
    )
    assert losses(batch, advantages, targets) == pytest.approx(expected)


@given(batches())
def test_kl_estimates_are_those_of_the_formulas(batch: Batch) -> None:
    pair, mask = (padded(batch.log_probs), padded(batch.ref_log_probs)), mask_of(batch.values)
    check(algorithm.kl_k1(*pair, mask), loops.log_ratios(batch.log_probs, batch.ref_log_probs))
    check(algorithm.kl_k3(*pair, mask), loops.k3(batch.log_probs, batch.ref_log_probs))


@given(batches())
def test_whitening_is_that_of_the_formulas(batch: Batch) -> None:
    rows, mask = batch.values, mask_of(batch.values)
    check(algorithm.whiten(padded(rows), mask), loops.whiten(rows))


@given(batches())
def test_explained_variance_is_that_of_the_formula(batch: Batch) -> None:
    found = algorithm.explained_variance(
        padded(batch.values), padded(batch.old_values), mask_of(batch.values)
    )
    expected = loops.explained(batch.values, batch.old_values) if batch.tokens > 1 else 0
    assert found.item() == pytest.approx(expected)


@given(st.floats(1e-3, 10), st.floats(-50, 50), st.floats(0.1, 50), st.integers(1, 1000))
def test_beta_follows_the_formula(beta: float, kl: float, target: float, n: int) -> None:
    found = algorithm.adaptive_beta(beta, kl, target=target, n=n, horizon=1000)
    assert found == pytest.approx(loops.beta(beta, kl, target, n, 1000))


@given(st.lists(st.lists(st.floats(-9, 9), min_size=4, max_size=4), min_size=1, max_size=5))
def test_group_advantages_are_those_of_the_formulas(scores: Ragged) -> None:
    given = torch.tensor(scores, dtype=torch.float64)
    found = algorithm.rloo_advantages(given)
    assert found.flatten().tolist() == pytest.approx(flat(loops.rloo(scores)), abs=1e-9)
    found = algorithm.grpo_advantages(given)
    assert found.flatten().tolist() == pytest.approx(flat(loops.grpo(scores)), abs=1e-6)


@given(batches(), st.integers(1, 4))
def test_more_padding_changes_nothing(batch: Batch, more: int) -> None:
    rows, width = batch.values, max(batch.lengths) + more
    functions: list[Callable[[int | None], Tensor]] = [
        lambda w: algorithm.gae(padded(batch.log_probs, w), padded(rows, w), mask_of(rows, w))[1],
        lambda w: algorithm.whiten(padded(rows, w), mask_of(rows, w)),
        lambda w: algorithm.kl_k3(padded(batch.log_probs, w), padded(rows, w), mask_of(rows, w)),
        lambda w: algorithm.token_rewards(
            torch.tensor(batch.scores), padded(rows, w), padded(batch.old_values, w), mask_of(rows, w), 0.1
        ),
    ]
    for function in functions:
        narrow, wide = function(None), function(width)
        assert torch.allclose(wide[:, :-more], narrow, rtol=1e-12, atol=1e-12)
        assert not wide[:, -more:].any()
    narrow_losses = losses(batch, rows, batch.old_values)
    assert losses(batch, rows, batch.old_values, width) == pytest.approx(narrow_losses)
    narrow = algorithm.explained_variance(padded(rows), padded(batch.old_values), mask_of(rows))
    given = (padded(rows, width), padded(batch.old_values, width), mask_of(rows, width))
    assert algorithm.explained_variance(*given).item() == pytest.approx(narrow.item())


@given(batches(), st.integers(0, 6))
def test_micro_batches_have_the_sums_of_the_batch(batch: Batch, cut: int) -> None:
    whole = losses(batch, batch.values, batch.old_values)
    parts = [
        Batch(**{name: rows[part] for name, rows in vars(batch).items()})
        for part in (slice(cut), slice(cut, None))
    ]
    made = [losses(part, part.values, part.old_values) for part in parts if part.scores]
    assert [sum(each) for each in zip(*made, strict=True)] == pytest.approx(whole)


@given(batches())
def test_at_ratio_1_the_gradient_is_that_of_the_policy_gradient(batch: Batch) -> None:
    new = padded(batch.old_log_probs).requires_grad_()
    mask, advantages = mask_of(batch.values), padded(batch.values)
    loss, clipped = algorithm.policy_loss(new, padded(batch.old_log_probs), advantages, mask)
    loss.backward()
    assert new.grad is not None
    check(-new.grad, batch.values)
    assert clipped == 0


def test_advantages_and_returns_are_constants() -> None:
    values = torch.ones(1, 2, requires_grad=True)
    found = algorithm.gae(values, values, torch.ones(1, 2, dtype=torch.bool))
    assert [each.requires_grad for each in found] == [False, False]


def test_gradients_reach_real_tokens_only_and_are_numbers() -> None:
    mask = torch.tensor([[True, True, False], [False, False, False]])
    for function in (algorithm.policy_loss, algorithm.value_loss):
        new = torch.tensor([[-1.0, -50.0, NAN], [INF, -INF, NAN]]).requires_grad_()
        loss, _ = function(new, torch.full((2, 3), -1.1), torch.full((2, 3), -3.0), mask)
        loss.backward()
        assert new.grad is not None
        assert new.grad.isfinite().all()
        assert new.grad[0, 0] != 0
        assert not new.grad[~mask].any()
    new = torch.tensor([[-1.0, -50.0, NAN], [INF, -INF, NAN]]).requires_grad_()
    algorithm.kl_k3(new, torch.full((2, 3), -2.0), mask).sum().backward()
    assert new.grad is not None
    assert new.grad.isfinite().all()
    assert new.grad[0, 0].item() == pytest.approx(1 - math.exp(-1))


def test_an_infinite_range_clips_no_value() -> None:
    found, clipped = algorithm.value_loss(
        torch.tensor([[5.0]]), torch.zeros(1, 1), torch.ones(1, 1), torch.ones(1, 1, dtype=torch.bool), INF
    )
    assert (found, clipped) == (8, 0)


@pytest.mark.parametrize("shape", [(3, 4), (3, 0), (0, 4), (0, 0)])
def test_a_batch_without_real_tokens_gives_zeros(shape: tuple[int, int]) -> None:
    mask, junk = torch.zeros(shape, dtype=torch.bool), torch.full(shape, NAN)
    found = (
        algorithm.masked_mean(junk, mask),
        algorithm.whiten(junk, mask),
        algorithm.explained_variance(junk, junk, mask),
        algorithm.kl_k1(junk, junk, mask),
        algorithm.kl_k3(junk, junk, mask),
        algorithm.token_rewards(torch.full(shape[:1], 5.0), junk, junk, mask, 0.1),
        *algorithm.gae(junk, junk, mask),
        *algorithm.policy_loss(junk, junk, junk, mask),
        *algorithm.value_loss(junk, junk, junk, mask),
    )
    assert [each.isfinite().all() and not each.any() for each in found] == [True] * len(found)


@pytest.mark.parametrize("chunk", [1, 128])
def test_forbidden_tokens_cost_a_lot_and_are_numbers(chunk: int) -> None:
    logits = torch.tensor([[[0.0, -INF, 0.0], [-INF, 5.0, -INF]]]).requires_grad_()
    log_probs, entropy = algorithm.log_probs_and_entropy(logits, torch.tensor([[1, 1]]), chunk=chunk)
    assert log_probs.tolist() == [[algorithm.MIN_LOG_PROB, 0]]
    assert entropy[0].tolist() == pytest.approx([math.log(2), 0])
    log_probs.sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert not entropy.requires_grad


@pytest.mark.parametrize("distance", [21.0, 100.0, 1e30])
def test_huge_log_ratios_are_clamped(distance: float) -> None:
    most, mask = math.exp(algorithm.MAX_LOG_RATIO), torch.ones(1, 2, dtype=torch.bool)
    new, old = torch.tensor([[distance, 0.0]]), torch.tensor([[0.0, distance]])
    loss, clipped = algorithm.policy_loss(new, old, torch.tensor([[-1.0, 0.0]]), mask)
    assert (loss.item(), clipped) == (pytest.approx(most), 0)
    assert algorithm.kl_k3(new, old, mask)[0].tolist() == pytest.approx([distance - 1, most - 21])


@given(st.floats(-(2**-10), 2**-10, width=32))
def test_k3_is_not_negative_where_32_bits_round(log_ratio: float) -> None:
    found = algorithm.kl_k3(
        torch.tensor([[log_ratio]]), torch.zeros(1, 1), torch.ones(1, 1, dtype=torch.bool)
    )
    assert 0 <= found.item() == pytest.approx(log_ratio**2 / 2, rel=1e-2, abs=1e-9)


def test_beta_stays_a_number_and_never_turns_negative() -> None:
    assert algorithm.adaptive_beta(0.1, NAN, target=6, n=64, horizon=100) == 0.1
    assert algorithm.adaptive_beta(0.1, INF, target=6, n=100, horizon=100) == pytest.approx(0.12)
    assert algorithm.adaptive_beta(0.1, -INF, target=6, n=100, horizon=100) == pytest.approx(0.08)
    assert algorithm.adaptive_beta(0.1, 0, target=6, n=10**9, horizon=1) == pytest.approx(0.08)


@given(st.floats(-1e6, 1e6), st.integers(2, 9), st.sampled_from([torch.float32, torch.float64]))
@example(64.2, 8, torch.float32)
@example(64.2, 8, torch.float64)
def test_equal_numbers_have_no_spread(number: float, count: int, dtype: torch.dtype) -> None:
    equal = torch.full((2, count), number, dtype=dtype)
    mask = torch.ones_like(equal, dtype=torch.bool)
    for found in (
        algorithm.grpo_advantages(equal),
        algorithm.rloo_advantages(equal),
        algorithm.whiten(equal, mask),
        algorithm.explained_variance(torch.randn_like(equal), equal, mask),
        algorithm.deviation(equal.flatten()),
    ):
        assert not found.any()


def test_what_rounding_added_to_equal_scores_is_not_divided_by() -> None:
    nearly = torch.tensor([0.1 + 0.2, 0.3] * 4, dtype=torch.float64)  # 6e-17 apart
    assert algorithm.grpo_advantages(nearly[None]).abs().max() < 1e-9


def test_one_group_with_spread_does_not_lend_it_to_another() -> None:
    scores = torch.tensor([[64.2] * 4, [64.2, 64.2, 64.2, 65.2]])
    for function in (algorithm.grpo_advantages, algorithm.rloo_advantages):
        found = function(scores)
        assert not found[0].any()
        assert found[1].tolist() == sorted(found[1].tolist()) != [0] * 4


def test_16_bits_are_computed_in_32_and_64_stay() -> None:
    mask = torch.ones(2, 3, dtype=torch.bool)
    for dtype, expected in ((torch.bfloat16, torch.float32), (torch.float64, torch.float64)):
        values, scores = torch.ones(2, 3, dtype=dtype), torch.ones(2, dtype=dtype)
        found = (
            algorithm.masked_mean(values, mask), algorithm.whiten(values, mask),
            algorithm.explained_variance(values, values, mask), algorithm.kl_k1(values, values, mask),
            algorithm.kl_k3(values, values, mask), algorithm.token_rewards(scores, values, values, mask, 0.1),
            *algorithm.gae(values, values, mask), algorithm.rloo_advantages(values),
            algorithm.grpo_advantages(values), algorithm.policy_loss(values, values, values, mask)[0],
            algorithm.value_loss(values, values, values, mask)[0],
            *algorithm.log_probs_and_entropy(values[None], torch.zeros(1, 2, dtype=torch.long)),
        )  # fmt: skip
        assert {each.dtype for each in found} == {expected}
    # Both numbers exist in 16 bits, their difference does not.
    pair = (torch.tensor([[each]], dtype=torch.bfloat16) for each in (-10.0, -0.0390625))
    assert algorithm.kl_k1(*pair, mask[:1, :1]).item() == -9.9609375


def test_the_softmax_of_all_tokens_is_never_held() -> None:
    logits = torch.randn(2, 32, 1000, dtype=torch.bfloat16).requires_grad_()
    sizes: list[int] = []

    def kept(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() != logits.untyped_storage().data_ptr():
            sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(kept, lambda tensor: tensor):
        log_probs, _ = algorithm.log_probs_and_entropy(logits, torch.zeros(2, 32, dtype=torch.long), chunk=8)
    assert max(sizes, default=0) <= 64
    log_probs.sum().backward()
    expected = logits.detach().float().requires_grad_()
    expected.log_softmax(-1)[..., 0].sum().backward()
    assert logits.grad is not None
    assert expected.grad is not None
    assert torch.allclose(logits.grad.float(), expected.grad, atol=1e-2)
