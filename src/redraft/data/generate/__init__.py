"""Generate training data with a teacher: instructions, and chains."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from redraft.chain import Usage

USUAL = {
    "prompts": "teacher",
    "temperature": 1.0,
    "max_tokens": 512,
    "feedback_tokens": 256,
    "max_revisions": 4,
}
"""SelFee's settings (reference/selfee.md), but for feedback: its 128 tokens cut off one verdict in ten."""

ACCEPT_SCORE = 9.0  # SelFee's too. It is the default where a critic is asked for a score.


def estimated(what: str, used: Usage, factor: float, parallel: int) -> list[tuple[str, str]]:
    """Return rows for a summary: what a run will cost, which is `factor` times what a sample of it `used`.

    Args:
        what: Names the run and its sample.
        used: Tokens, seconds and cost of the sample.
        factor: How many times the sample the run is.
        parallel: How many chains or calls are made at once.
    """
    usd = used.cost_usd
    new, read = used.completion_tokens * factor, used.prompt_tokens * factor
    return [
        ("estimate", what),
        ("", f"{new:,.0f} new tokens, {read:,.0f} in prompts"),
        ("", "no price is known: --price IN,OUT" if usd is None else f"{usd * factor:,.4f} USD"),
        ("", f"{used.seconds * factor / parallel / 3600:.2f} hours, {parallel} at once"),
    ]
