"""Fit an English article to the rewritten passage that follows."""

from __future__ import annotations

import re

from redraft.engines.steering.draft import CLOSERS, STOPS

_ENGLISH = re.compile(
    r"(?i)\b(?:the|they|this|that|it|of|and|with|you|your|he|she|his|has|have|for|(?-i:I))\b"
)
_ARTICLE = re.compile(r"\b(?:([Aa])n?|[Tt]he)( +)\Z")
_OWN = re.compile(r"(?i)(?:an?|the) (?=\w)")
_LIKE_YOU = r"uni(?![mnd])|us[aeiu]|ut[ei]|eu|on(?:e|ce)\b"  # vowels that are spoken as consonants
_SPELT = r"(?-i:[A-Z][B-DF-HJ-NP-TV-Z\d]*s?\b)"  # read letter by letter
_AN = re.compile(
    rf"(?i)(?={_SPELT})[aefhilmnorsx]|(?!{_LIKE_YOU}|{_SPELT})[aeiou]|hour|honest|hono|heir|8|1[18](?!\d)"
)
_A = re.compile(
    rf"(?i)(?={_SPELT})[b-dgjkpqt-wyz]|{_LIKE_YOU}|h(?!our|onest|ono|eir|istor)|[^\W_aeiouh\d]|[2-79]|1(?![18](?!\d))"
)


def with_article(before: str, new: str, text: str) -> tuple[str, str]:
    """Fit "a" or "an" at the end of `before` to the passage `new`, which follows. Return both texts.

    A changed article is moved to the start of `new`. If `text` has no common English words, nothing changes.
    """
    article = _ARTICLE.search(before)
    if not article or not new[:1].isalnum() or not _ENGLISH.search(text):
        return before, new
    if article[1] == "A" and before[: article.start()].rstrip(" ")[-1:].isalnum():  # a name, as in "Plan A"
        return before, new
    own, word = _OWN.match(new), new.split()[0].strip(CLOSERS + STOPS)
    if own:
        return before[: article.start()], (new[0].upper() if article[0][0].isupper() else new[0]) + new[1:]
    if (
        not article[1]
        or (word.split("-")[0].isupper() and not re.match(_SPELT, word))
        or not (_AN.match(word) or _A.match(word))
    ):
        return before, new
    fitted = f"{article[1]}{'n' * bool(_AN.match(word))}{article[2]}"
    return (before, new) if fitted == article[0] else (before[: article.start()], fitted + new)
