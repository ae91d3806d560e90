"""How answers that break IFEval's constraints are mended, where only their form is at fault.

Types that are not here are about content. Commas stay: a list without them reads differently.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from redraft.verify.mend import closed, quoted, unfenced

Values = Mapping[str, Any]


def _repeated(answer: str, values: Values) -> list[str]:
    asked = values["prompt_to_repeat"].strip()
    # A request that is repeated with changes would come twice.
    return [] if asked[:10].lower() in answer[:60].lower() else [f"{asked}\n\n{answer.strip()}"]


WAYS: dict[str, Callable[[str, Values], Iterable[str]]] = {
    "detectable_format:json_format": lambda answer, _: [unfenced(answer)],
    "combination:repeat_prompt": _repeated,
    "startend:end_checker": lambda answer, values: closed(answer, values["end_phrase"]),
    "startend:quotation": lambda answer, _: [quoted(answer)],
    "change_case:english_capital": lambda answer, _: [answer.upper()],
    "change_case:english_lowercase": lambda answer, _: [answer.lower()],
}
"""Type -> the ways to mend an answer that breaks it. The first that meets the constraint is the one."""
