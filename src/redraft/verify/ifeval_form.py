"""The forms of IFEval's constraints: what of them steers a model while it writes.

Types that are not here are only checked: languages, and layouts of the whole text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from redraft.steering.form import Bounds, Form

Values = Mapping[str, Any]


def form_of(kind: str, values: Values) -> Form | None:
    """Return the form of a constraint; None if it has none."""
    make = FORMS.get(kind)
    return make(values) if make else None


def _bounds(relation: str, limit: int) -> Bounds:
    return (0, max(limit - 1, 0)) if relation == "less than" else (limit, None)


def _frequency(values: Values) -> Form | None:
    word, count = values["keyword"], values["frequency"]
    if values["relation"] != "less than":
        return Form(has=(word,) * count)
    return Form(lacks=(word,)) if count == 1 else None


FORMS: dict[str, Callable[[Values], Form | None]] = {
    "keywords:existence": lambda values: Form(has=tuple(values["keywords"])),
    "keywords:frequency": _frequency,
    "keywords:forbidden_words": lambda values: Form(
        lacks=tuple(form for word in values["forbidden_words"] for form in (word, f"{word}'s"))
    ),
    "length_constraints:number_sentences": lambda values: Form(
        sentences=_bounds(values["relation"], values["num_sentences"])
    ),
    "length_constraints:number_words": lambda values: Form(
        words=_bounds(values["relation"], values["num_words"])
    ),
    "detectable_content:postscript": lambda values: Form(postscript=values["postscript_marker"]),
    "detectable_format:json_format": lambda _: Form(schema={}),
    "combination:repeat_prompt": lambda values: Form(opening=values["prompt_to_repeat"].strip()),
    "startend:end_checker": lambda values: Form(closing=values["end_phrase"].strip()),
    "startend:quotation": lambda _: Form(quoted=True),
    "change_case:english_capital": lambda _: Form(case="upper"),
    "change_case:english_lowercase": lambda _: Form(case="lower"),
    "punctuation:no_comma": lambda _: Form(without=frozenset(",")),
}
