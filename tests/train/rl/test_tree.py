"""A beginning that rows share is computed once, and changes nothing."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from redraft.train.attention import use_segments
from redraft.train.rl.policy import WORTH, tree_of
from redraft.train.verb import bare_of
from tests.train.rl.tiny_policy import policy, shaken

ROWS = st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=12), min_size=1, max_size=6)


@given(ROWS)
def test_each_row_stands_on_its_branches(rows: list[list[int]]) -> None:
    tree = tree_of(rows)
    starts = [sum(each.tokens for each in tree.branches[:n]) for n in range(len(tree.branches) + 1)]
    assert starts[-1] == tree.ids.shape[1] <= sum(map(len, rows))
    for row, places in zip(rows, tree.places.tolist(), strict=True):
        at = places[: len(row)]
        assert tree.ids[0, at].tolist() == row
        assert tree.positions[0, at].tolist() == list(range(len(row)))
        last = next(n for n in range(len(tree.branches)) if starts[n] <= at[-1] < starts[n + 1])
        path = (*tree.branches[last].above, last)
        assert at == [place for n in path for place in range(starts[n], starts[n + 1])][: len(row)]


def test_what_is_shared_is_there_once() -> None:
    shared, own = list(range(20)), [7] * WORTH
    assert tree_of([[*shared, 1, 2], [*shared, 3, *own, 4], [*shared, 3, *own, 5, 6]]).ids.shape == (
        1,
        20 + 2 + 1 + WORTH + 1 + 2,
    )
    assert tree_of([shared] * 8).ids.shape == (1, 20)


def test_the_policy_says_the_same_and_learns_the_same() -> None:
    ids = torch.randint(20, 40, (5, 24), generator=torch.Generator().manual_seed(3))
    ids[:, :9] = ids[0, :9]
    ids[2:4, :14] = ids[2, :14]  # two answers to one prompt
    starts = torch.tensor([11, 12, 14, 14, 10])
    mask = torch.arange(8) < torch.tensor([8, 3, 6, 8, 0])[:, None]
    plain, shared = shaken(policy()).double(), shaken(policy()).double()
    use_segments(bare_of(shared.model))
    assert (plain.branches, shared.branches) == (False, True)
    for one, other in zip(plain.see(ids, starts, mask), shared.see(ids, starts, mask), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        plain.see_reference(ids, starts, mask), shared.see_reference(ids, starts, mask), atol=1e-5, rtol=1e-5
    )
    for made in (plain, shared):
        seen = made.see(ids, starts, mask)
        (seen.log_probs.sum() + seen.values.square().sum()).backward()
    pairs = zip(plain.named_parameters(), shared.named_parameters(), strict=True)
    for (name, one), (_, other) in pairs:
        if one.requires_grad:
            assert one.grad is not None, name
            torch.testing.assert_close(one.grad, other.grad, atol=1e-5, rtol=1e-5)
