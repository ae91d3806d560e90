"""Numbers that are added up over steps and processes, until the log has a line for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain

import torch
from torch import Tensor

from redraft.train.processes import gathered, place


class Sums:
    """Sums by name, of this process. They stay on their device until they are read.

    The sum called `count` is what the others are means over.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    def add(self, name: str, value: Tensor | float) -> None:
        """Add to a sum."""
        value = torch.as_tensor(value)
        self._sums[name] = self._sums.get(name, torch.zeros((), device=value.device)) + value.detach()

    def take(self) -> dict[str, float]:
        """Return the means over all processes, and begin again."""
        parts, self._sums = self.parts(), {}
        whole = {name: sum(part.get(name, 0.0) for part in parts) for part in parts for name in part}
        count = whole.pop("count", 0.0)
        return {name: each / count for name, each in whole.items()} if count else {}

    def parts(self) -> list[dict[str, float]]:
        """Return what each process has added up since the last `take`."""
        return gathered({name: float(each) for name, each in self._sums.items()})

    def restore(self, parts: Sequence[Mapping[str, float]]) -> None:
        """Take over this process's share of what `parts` returned, perhaps in other processes."""
        rank, ranks = place()
        for name, each in chain.from_iterable(part.items() for part in parts[rank::ranks]):
            self.add(name, each)
