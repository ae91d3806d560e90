"""Lay the rows of a batch out as a tree, so that a beginning which several share is computed once.

All prompts of a template begin alike, and so do all answers to a prompt. The tokens of the tree are one row
without padding: each part of it attends to itself and to the parts above it (`model.attention`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import NamedTuple

import torch
from torch import Tensor

WORTH = 4  # tokens that rows must share to share a part: each part is a call of attention in each layer


class Branch(NamedTuple):
    """Consecutive tokens that the same rows share: how many, and the branches that they follow."""

    tokens: int
    above: tuple[int, ...]


class Tree(NamedTuple):
    """The distinct tokens of some rows, each after what it follows."""

    ids: Tensor  # int64 [1, tokens]
    positions: Tensor  # of each in its rows, int64 [1, tokens]
    places: Tensor  # of each token of each row among `ids`, int64 [rows, length]; 0 at padding
    branches: tuple[Branch, ...]


def tree_of(rows: Sequence[Sequence[int]]) -> Tree:
    """Return the tree of rows of tokens."""
    ids: list[int] = []
    positions: list[int] = []
    branches: list[Branch] = []
    places = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.int64)

    def grow(numbers: list[int], at: int, above: tuple[int, ...]) -> None:
        row = rows[numbers[0]]
        end = at + _common(rows, numbers, at)
        if end > at:
            for number in numbers:
                places[number, at:end] = torch.arange(len(ids), len(ids) + end - at)
            above = (*above, len(branches))
            branches.append(Branch(end - at, above[:-1]))
            ids.extend(row[at:end])
            positions.extend(range(at, end))
        for group in _groups(rows, [number for number in numbers if len(rows[number]) > end], end):
            grow(group, end, above)

    grow(list(range(len(rows))), 0, ())
    return Tree(torch.tensor([ids]), torch.tensor([positions]), places, tuple(branches))


def _common(rows: Sequence[Sequence[int]], numbers: Sequence[int], at: int) -> int:
    """Return how many tokens from `at` on these rows have in common."""
    columns = zip(*(rows[number][at:] for number in numbers), strict=False)
    return sum(1 for _ in takewhile(lambda column: len({*column}) == 1, columns))


def _groups(rows: Sequence[Sequence[int]], numbers: Sequence[int], at: int) -> Iterator[list[int]]:
    """Yield these rows by their next token, together if it is worth it."""
    found: dict[int, list[int]] = {}
    for number in numbers:
        found.setdefault(rows[number][at], []).append(number)
    for group in found.values():
        if _common(rows, group, at) >= WORTH:
            yield group
        else:
            yield from ([number] for number in group)
