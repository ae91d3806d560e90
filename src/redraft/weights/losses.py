"""Count, per tensor, the values that become infinite or zero when a tensor is rounded to another dtype.

Values that were NaN or infinite before rounding are counted separately. Other errors are not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

from redraft.jobs.counting import counted
from redraft.weights.header import dtype_name

Say = Callable[[str], None]  # called with a message for the user

# The integer dtype of the same width, and the smallest bit pattern of NaN. The pattern before it is infinity
# (IEEE 754; bfloat16 likewise).
_NAN = {"F64": ("int64", (0x7FF << 52) + 1), "F32": ("int32", (0xFF << 23) + 1)}
_NAN |= {"F16": ("int16", (0x1F << 10) + 1), "BF16": ("int16", (0xFF << 7) + 1)}


@dataclass(frozen=True)
class Losses:
    """Counts, by tensor name, of values lost in rounding, and of values that were not finite before."""

    odd: dict[str, int] = field(default_factory=dict)  # NaN or infinite before rounding
    infinite: dict[str, int] = field(default_factory=dict)  # infinite or NaN only after rounding
    zero: dict[str, int] = field(default_factory=dict)  # zero only after rounding

    def count(self, name: str, before: torch.Tensor, after: torch.Tensor) -> None:
        """Count the values of a tensor that rounding changed to infinity or zero."""
        odd = sum(not_finite(before))
        self.add(name, odd=odd)
        if before.dtype != after.dtype:
            zero = int(before.count_nonzero()) - int(after.count_nonzero())
            self.add(name, infinite=sum(not_finite(after)) - odd, zero=zero)

    def add(self, name: str, *, odd: int = 0, infinite: int = 0, zero: int = 0) -> None:
        """Add `odd`, `infinite` and `zero`, if positive, to the counts of a tensor."""
        for counts, more in ((self.odd, odd), (self.infinite, infinite), (self.zero, zero)):
            if more > 0:
                counts[name] = counts.get(name, 0) + more

    def say(self, *, warn: Say, tell: Say, wider: str) -> None:
        """Report the counts. `wider` is the option that avoids infinite values, such as `--dtype bf16`."""
        if self.odd:
            warn(f"{_counted(self.odd, 'had an infinite or NaN value')}: the source is damaged.")
        if self.infinite:
            warn(f"{_counted(self.infinite, 'became infinite')}: {wider} allows larger numbers.")
        if self.zero:
            tell(f"{_counted(self.zero, 'became zero')}: too small for the dtype. A few do no harm.")


def not_finite(values: torch.Tensor) -> tuple[int, int]:
    """Return the number of NaN values, and the number of infinite values."""
    dtype = dtype_name(values.dtype)
    if dtype not in _NAN or not values.numel():
        return 0, 0
    width, first = _NAN[dtype]
    # As integers, without the sign, NaN and infinity are the largest. For 16 bits, `isfinite` is far slower.
    integer = getattr(torch, width)
    bits = values.contiguous().view(integer) & torch.iinfo(integer).max
    if int(bits.amax()) < first - 1:
        return 0, 0
    return int((bits >= first).sum()), int((bits == first - 1).sum())


def _counted(counts: Mapping[str, int], became: str) -> str:
    worst = max(counts, key=lambda name: counts[name])
    numbers = counted(sum(counts.values()), "number")
    if len(counts) == 1:
        return f"{numbers} in {worst!r:.80} {became}"
    most = f"{counts[worst]:,} of them in {worst!r:.80}"
    return f"{numbers} in {len(counts):,} tensors {became}, {most}"
