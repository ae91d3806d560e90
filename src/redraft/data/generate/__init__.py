"""Generate training data with a teacher: instructions, and chains."""

from __future__ import annotations

USUAL = {
    "prompts": "teacher",
    "temperature": 1.0,
    "max_tokens": 512,
    "feedback_tokens": 256,
    "max_revisions": 4,
}
"""SelFee's settings (reference/selfee.md), except feedback: its 128 tokens cut off one verdict in ten."""

ACCEPT_SCORE = 9.0  # SelFee's too. It is the default where a critic is asked for a score.
