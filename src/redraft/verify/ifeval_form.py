"""The forms of IFEval's constraints: what of them steers a model while it writes.

Languages are only checked, and so are most counts that have an upper bound alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from redraft.steering.form import Bounds, Form
from redraft.steering.layout import Layout

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


def _slots(relation: str, slot: str, count: int) -> Form | None:
    return None if relation == "less than" else Form(layout=Layout(slots=(slot,) * count))


CHOICES = ("My answer is yes.", "My answer is no.", "My answer is maybe.")

FORMS: dict[str, Callable[[Values], Form | None]] = {
    "keywords:existence": lambda values: Form(has=tuple(values["keywords"])),
    "keywords:frequency": _frequency,
    "keywords:forbidden_words": lambda values: Form(lacks=tuple(values["forbidden_words"])),
    "keywords:letter_frequency": lambda values: _slots(
        values["let_relation"], f"…{values['letter'].lower()}…", values["let_frequency"]
    ),
    "change_case:capital_word_frequency": lambda values: _slots(
        values["capital_relation"], "ABC", values["capital_frequency"]
    ),
    "length_constraints:number_paragraphs": lambda values: Form(
        layout=Layout(parts=values["num_paragraphs"], between="\n\n***\n\n")
    ),
    "length_constraints:nth_paragraph_first_word": lambda values: Form(
        layout=Layout(
            parts=values["num_paragraphs"],
            between="\n\n",
            first=(values["nth_paragraph"], values["first_word"]),
        )
    ),
    "length_constraints:number_sentences": lambda values: Form(
        sentences=_bounds(values["relation"], values["num_sentences"])
    ),
    "length_constraints:number_words": lambda values: Form(
        words=_bounds(values["relation"], values["num_words"])
    ),
    "detectable_content:postscript": lambda values: Form(postscript=values["postscript_marker"]),
    "detectable_content:number_placeholders": lambda values: _slots(
        "at least", "[…]", values["num_placeholders"]
    ),
    "detectable_format:number_bullet_lists": lambda values: Form(
        layout=Layout(parts=values["num_bullets"], mark="* ", between="\n")
    ),
    "detectable_format:constrained_response": lambda _: Form(choices=CHOICES),
    "detectable_format:number_highlighted_sections": lambda values: _slots(
        "at least", "*…*", values["num_highlights"]
    ),
    "detectable_format:multiple_sections": lambda values: Form(
        layout=Layout(
            parts=values["num_sections"],
            mark=f"{values['section_spliter'].strip().replace('{', '{{').replace('}', '}}')} {{}}\n",
            between="\n\n",
        )
    ),
    "detectable_format:title": lambda _: Form(layout=Layout(title=True)),
    "combination:two_responses": lambda _: Form(layout=Layout(parts=2, between="\n\n******\n\n")),
    "detectable_format:json_format": lambda _: Form(schema={}),
    "combination:repeat_prompt": lambda values: Form(opening=values["prompt_to_repeat"].strip()),
    "startend:end_checker": lambda values: Form(closing=values["end_phrase"].strip()),
    "startend:quotation": lambda _: Form(quoted=True),
    "change_case:english_capital": lambda _: Form(case="upper"),
    "change_case:english_lowercase": lambda _: Form(case="lower"),
    "punctuation:no_comma": lambda _: Form(without=frozenset(",")),
}
