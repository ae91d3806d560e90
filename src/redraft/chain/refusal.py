"""Recognise English texts that begin by declining the request."""

from __future__ import annotations

import re

_CANNOT = r"\b(?:cannot|can ?not|can'?t|won'?t|will not|unable|not able|not possible)\b"
_REFUSAL = re.compile(
    r"\W*(?:unfortunately,? )?"
    rf"(?:(?:(?:i'?m|i am) (?:really |very |so )?(?:sorry|afraid)|sorry|my apologies|i apologi[sz]e)\b"
    rf"[^.!?\n]{{0,60}}{_CANNOT}|i(?: am|'m)? {_CANNOT} (?:to )?(?:help|assist|do|provide|answer|comply"
    r"|fulfil|generate|create|write|access|complete|perform|give|offer|support|engage|discuss|open"
    r"|judge|evaluate|assess|rate|review|critici[sz]e|critique|score"
    r"|see (?!any|an? |no |what |why |how |where ))"
    r"|as an? (?:ai|artificial|large language|language) ?(?:intelligence|model|assistant)?\b)",
    re.IGNORECASE,
)


def is_refusal(text: str) -> bool:
    """Return whether a text begins like an English refusal."""
    return bool(_REFUSAL.match(text.replace("’", "'")))
