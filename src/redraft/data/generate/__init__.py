"""Generate training data with a teacher model: instructions and chains."""

from __future__ import annotations

USUAL = {
    "prompts": "teacher",
    "temperature": 1.0,
    "max_tokens": 512,
    "feedback_tokens": 256,
    "max_revisions": 4,
}
"""SelFee's settings, except `feedback_tokens`. SelFee's limit of 128 would cut off one verdict in ten."""

ACCEPT_SCORE = 9.0  # SelFee's value, and the default if the critic is asked for a score.
