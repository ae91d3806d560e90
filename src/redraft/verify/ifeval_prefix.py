"""What the beginning of an answer says of IFEval's constraints: whether it has broken one for good.

Types that are not here may always still be met, or are languages.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from redraft.verify.prefix import LEAST, begins_json, settled
from redraft.verify.segment import words

Values = Mapping[str, Any]
FENCES = ("```json", "```Json", "```JSON", "```")


def is_lost(kind: str, values: Values, text: str) -> bool:
    """Return whether no answer that begins with a text meets a constraint."""
    lost = LOST.get(kind)
    return bool(lost and lost(text.strip(), text, values))


def _too_many(count: Callable[[str, str, Values], int], relation: str, limit: str) -> Lost:
    """Return the rule of `less than`; `count` counts what every continuation has at least."""

    def lost(plain: str, text: str, values: Values) -> bool:
        return bool(values[relation] == "less than" and count(plain, text, values) >= values[limit])

    return lost


def _forbidden(_: str, text: str, values: Values) -> bool:
    found = (
        re.finditer(rf"\b{re.escape(word)}\b", text, re.IGNORECASE) for word in values["forbidden_words"]
    )
    return any(match.end() < len(text) for each in found for match in each)


def _paragraphs(plain: str, _: str, values: Values) -> bool:
    *parts, last = (part.strip() for part in re.split(r"\s?\*\*\*\s?", plain))
    return "" in parts[1:] or sum(map(bool, parts)) + bool(last.strip("*")) > values["num_paragraphs"]


def _two(plain: str, _: str, __: Values) -> bool:
    *parts, last = (part.strip() for part in plain.split("******"))
    return "" in parts[1:] or sum(map(bool, parts)) + bool(last.strip("*")) > 2


def _first_word(plain: str, text: str, values: Values) -> bool:
    parts, place = text.split("\n\n"), values["nth_paragraph"]
    if sum(1 for part in plain.split("\n\n") if part.strip()) > values["num_paragraphs"]:
        return True
    if len(parts) < place:
        return False
    found, complete = parts[place - 1].split(), len(parts) > place
    if not found or (len(found) == 1 and not complete):
        return False
    word = re.split(r"[.,?!'\"]", found[0].lstrip("'").lstrip('"'))[0].lower()
    return bool(word != values["first_word"].lower())


def _bullets(plain: str, _: str, values: Values) -> bool:
    count = len(re.findall(r"^[^\S\n]*\*[^\*].*$", plain, re.MULTILINE))
    count += len(re.findall(r"^[^\S\n]*-.*$", plain, re.MULTILINE))
    return bool(count > values["num_bullets"])


def _json(plain: str, _: str, __: Values) -> bool:
    if any(fence.startswith(plain) for fence in FENCES):
        return False
    fence = next(filter(plain.startswith, FENCES), "")
    return not begins_json(plain.removeprefix(fence).rstrip("`"))


def _repeated(_: str, text: str, values: Values) -> bool:
    wanted, so_far = values["prompt_to_repeat"].strip().lower(), settled(text).lstrip().lower()
    return not str(wanted).startswith(so_far) and not so_far.startswith(wanted)


def _occurrences(plain: str, _: str, values: Values) -> int:
    return len(re.findall(re.escape(values["keyword"]), plain, re.IGNORECASE))


def _letters(_: str, text: str, values: Values) -> int:
    return settled(text).rstrip().lower().count(values["letter"].lower())


Lost = Callable[[str, str, Values], bool]
"""From a text without the white space around it, the text, and the values of a constraint."""

LOST: dict[str, Lost] = {
    "keywords:frequency": _too_many(_occurrences, "relation", "frequency"),
    "keywords:forbidden_words": _forbidden,
    "keywords:letter_frequency": _too_many(_letters, "let_relation", "let_frequency"),
    "length_constraints:number_sentences": _too_many(
        lambda _, text, __: LEAST["sentences"](text), "relation", "num_sentences"
    ),
    "length_constraints:number_paragraphs": _paragraphs,
    "length_constraints:number_words": _too_many(
        lambda plain, _, __: len(re.findall(r"\w+", plain)), "relation", "num_words"
    ),
    "length_constraints:nth_paragraph_first_word": _first_word,
    "detectable_format:number_bullet_lists": _bullets,
    "detectable_format:json_format": _json,
    "combination:two_responses": _two,
    "combination:repeat_prompt": _repeated,
    "startend:quotation": lambda plain, _, __: plain[:1] not in ("", '"'),
    "change_case:english_capital": lambda plain, _, __: not f"A{plain}".isupper(),
    "change_case:english_lowercase": lambda plain, _, __: not f"a{plain}".islower(),
    "change_case:capital_word_frequency": _too_many(
        lambda _, text, __: sum(1 for word in words(settled(text)) if word.isupper()),
        "capital_relation",
        "capital_frequency",
    ),
    "punctuation:no_comma": lambda plain, _, __: "," in plain,
}
