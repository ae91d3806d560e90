"""SharedMeans until the log has a line for them."""

from __future__ import annotations

import torch

from redraft.train.batches import SharedMeans


def test_sums_are_means_over_their_count_and_begin_again() -> None:
    sums = SharedMeans()
    for loss in (1.0, torch.tensor(2.0, requires_grad=True)):
        sums.add("loss", loss)
        sums.add("count", 1)
    assert sums.take() == {"loss": 1.5}
    assert sums.take() == {}


def test_what_was_added_before_a_checkpoint_counts() -> None:
    sums, again = SharedMeans(), SharedMeans()
    sums.add("loss", 0.1)
    sums.add("count", 3)
    again.restore(sums.parts())
    assert again.take() == sums.take()


def test_sums_of_two_processes_are_taken_over_by_one() -> None:
    sums = SharedMeans()
    sums.restore([{"loss": 1.0, "count": 1.0}, {"loss": 3.0, "count": 1.0}])
    assert sums.take() == {"loss": 2.0}
