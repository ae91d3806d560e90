"""Split a prompt into sentences that may be demands. Quotations are never read as demands."""

# ruff: noqa: E501  (a pattern is read most easily in one piece)
from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache

MOST_SENTENCES = 150
"""The most sentences to read at each end of a prompt. Sentences in the middle are skipped."""
LONGEST_SENTENCE = 1200
"""The longest sentence, in characters, that may be a demand. Longer sentences are skipped."""
LONGEST_PHRASE = 300

BASE, LAST = 0xF0000, 0xFFFF0
HIDDEN = f"{chr(BASE)}-{chr(LAST)}"
QUOTED = f"[{chr(BASE)}-{chr(LAST - 1)}]"
"""A pattern fragment that matches the character that replaces a quotation."""
_QUOTATION = re.compile(
    r"""```.*?```|"[^"\n]*"|“[^”\n]{0,2000}”|(?<!\w)'[^'\n]{1,80}'(?!\w)|(?<!\w)‘[^’\n]{1,80}’(?!\w)""", re.S
)
_MATERIAL = re.compile(
    r"^((?:.{0,200}\b(?:summari[sz]e|translate|rewrite|proof-?read|fix|correct|edit|shorten|paraphrase|rephrase|polish|improve|"
    r"expand|extract|classify|analy[sz]e|check|grammar)\b.{0,200}?(?<!rules)(?<!s are)(?<!requirements)(?<!constraints)"
    r"(?<!following)(?<!keys)(?<!fields)(?<!steps)(?<!length)(?<!limit)(?<!max)|(?:text|e-?mail|article|review|passage|input|"
    r"original|notes|message|draft))\s?:)(?: *\n(?![\U000F0000-\U000FFFF0])(?:.+\n?)+| *[^\n\s\U000F0000-\U000FFFF0].*)",
    re.IGNORECASE | re.MULTILINE,
)
"""Matches an instruction to work on a text, and the text itself: the rest of the line, or the lines below."""
_STOPS, _NEW = (".", "!", "?"), re.compile(r"\s+[A-Z]")
_PRIVATE = re.compile(r"[\U000F0000-\U0010FFFF]")
_END = re.compile(
    r"(?<=[.!?;])(?<![Mm]ax\.)(?<![Mm]in\.)\s+|\n+|(?<=[.!?][)\U000F0000-\U000FFFF0])\s+(?=[A-Z])"
)


@dataclass(frozen=True)
class Text:
    """A prompt in which each quotation is replaced by one character."""

    plain: str
    masked: str
    hidden: tuple[str, ...]
    known: dict[str, bool] = field(default_factory=dict)

    @classmethod
    def of(cls, text: str) -> Text:
        """Replace the first quotation with `BASE`, the next with the next character, up to `LAST`."""
        hidden: list[str] = []

        def hide(match: re.Match[str]) -> str:
            hidden.append(match[0])
            ends = match[0][-2:-1] in _STOPS and _NEW.match(match.string, match.end())
            return chr(min(BASE + len(hidden) - 1, LAST)) + "\n" * bool(ends)

        plain = _PRIVATE.sub(" ", text)
        masked = _QUOTATION.sub(hide, plain)
        masked = _MATERIAL.sub(lambda match: f"{match[1]} {hide(match)}", masked)
        return cls(plain.strip(), masked, tuple(hidden))

    @property
    def sentences(self) -> Iterator[Sentence]:
        """The sentences and lines that may contain a demand."""
        lines = list(dict.fromkeys(_END.split(self.masked)))
        for line in [*lines[:MOST_SENTENCES], *lines[MOST_SENTENCES:][-MOST_SENTENCES:]]:
            if 3 <= len(line) <= LONGEST_SENTENCE and not _NO_DEMAND.search(line):
                yield Sentence(line, self)

    def has(self, pattern: str) -> bool:
        """Return whether a pattern occurs in the text, ignoring case."""
        if pattern not in self.known:
            self.known[pattern] = re.search(pattern, self.plain, re.IGNORECASE) is not None
        return self.known[pattern]


@dataclass(frozen=True)
class Sentence:
    """A sentence of a prompt, in which each quotation is replaced by one character."""

    text: str
    of: Text

    def all(self, pattern: str, *, negated: bool = False, closing: bool = False) -> Iterator[re.Match[str]]:
        """Search for a pattern, ignoring case. Yield the matches that are demands.

        Args:
            negated: Also yield matches after a "not".
            closing: Also yield a match after "in" that ends a question: "Why does it rain, in ten words?".
        """
        for match in compiled(pattern).finditer(self.text):
            before = self.before(match)
            # The sentence is a question and not a request.
            only_asks = self.text.rstrip().endswith("?") and not _REQUEST.search(self.text)
            asks = only_asks and not _ASKED_AFTER.search(self.text, match.end())
            inside = closing and re.search(r"\bin\b", self.text[max(0, match.start() - 4) : match.end()])
            at_end = inside and re.fullmatch(r"\W*", self.text[match.end() :])
            if _TOLD.search(before) or (asks and not (at_end and _WONDERS.search(self.text))):
                continue
            if negated or not is_negated(before):
                yield match

    def before(self, match: re.Match[str]) -> str:
        """Return the text before a match, at most 80 characters."""
        return self.text[max(0, match.start() - 80) : match.start()]

    def phrase(self, masked: str) -> str:
        """Restore quotations in a phrase. Strip outer quotation marks. Return "" for code or long text."""
        text = re.sub(QUOTED, lambda it: self.of.hidden[ord(it[0]) - BASE], masked).strip()
        if len(text) > 1 and (text[0] + text[-1]) in ('""', "''", "“”", "‘’"):
            text = text[1:-1].strip()
        return text if text.isprintable() and len(text) <= LONGEST_PHRASE and "```" not in text else ""


@cache
def compiled(pattern: str) -> re.Pattern[str]:
    """Compile a rule's pattern, ignoring case."""
    return re.compile(pattern, re.IGNORECASE)


_NO_DEMAND = re.compile(
    r"(?:\bnot|n['’]t) (?:have|need|necessarily)\b|\bneed not\b|\bno need\b|\boptional"
    r"|^\W*how (?:do|to|can|many)\b|^\W*(?:if|when|unless|suppose)\b"
    r"|^\W*(?:should|must|is|are|does|do|did|was|were) (?!not\b)(?!.*[,–—-] ?yes(?: or |/)no\W*$).*\?\W*$"
    r"|^\W*(?:why|who|when|where) (?!.*\bin (?:[a-z]+ ){0,3}\d* ?\w+\W*$).*\?\W*$"
    r"|^\W*(?:the|this|my|his|her|their|our) \w+ (?:contains?|ends|starts|begins|has|had|was|is|were|wrote|used)\b"
    r"|^\W*here (?:is|are)\b|\b(?:regex|regular expression|function|parser|passwords?)\b",
    re.IGNORECASE,
)
"""Matches sentences that only seem to demand something."""
OF_PARTS = re.compile(
    r"\b(?:each|every|per)\b(?! (?:other|separated|divided))|\b(?:first|second|third|last) (?:paragraph|section|line|stanza|verse)",
    re.IGNORECASE,
)
"""Matches sentences with demands on parts of an answer, such as each paragraph."""
_TOLD = re.compile(
    r"^\W*(?:my|his|her|their|he|she|they|people|everyone|someone|nobody|some|most|many|an? \w+) [^,.;:]*$"
    r"|^\W*(?:the|our|these|most) (?!.*\b(?:should|must|(?:has|have|needs?) to|can|may|shall|limit|max\w*|min\w*)\b)(?:[^\s.;]+ ){2,}$"
    r"|^\W*you (?:keep|always|often|used|gave|wrote|are|were|never)\b[^.;]*$|\b(?:who|where)\b[^.,;:]*$"
    r"|\b(?:why|whether|how|what|when)\b[^.;:,]*\b(?:must|should|has|have|needs?)\b[^.;:,]*$"
    r"|^\W*(?:and |but |so |because )?(?:i|we) (?!want|need|would|only have|must|have to|have (?:only )?(?:space|room)|expect|limit|don)\w+ [^,.;:]*$"
    r"|^\W*(?:that|this|it|there)(?:['’]s| is| was| are) (?!to\b|space|room)[^,.;]{0,30}$"
    r"|\b(?:i|we) (?:have|need|want|am supposed|are supposed) to (?!keep|have|get|see|stay|fit)[^.;]*$"
    r"|\b(?:wants?|asks?|asked|told|expects?|tells|requires?|needs?|likes?) (?:me|us|him|her|them) to\b[^.;]*$"
    r"|\b(?:i|we)(?:['’]d| would)? (?:say|think|guess|believe|heard|read)\b[^.;]*$|\b(?:had|used|were told|was told) to\b[^.;]*$"
    r"|\b(?:let['’]?s|let us|we['’]ll|i['’]ll) $|\b(?:when|whether|why) to\b[^.;]*$|\b(?:imagine|suppose|pretend|if)\b[^.;]*$"
    r"|\b(?:he|she|they|we|i|who) (?:had|was|were|wrote|used|said|made|has|have|am)\b[^,.;]*$|\bit (?:was|had)\b[^,.;]*$"
    r"|\b(?:said|says|told (?:me|us|him|her|them|you)|wrote|asked (?:me|us|for)|called|ordered|demanded|insisted)\b[^.;]*$"
    r"|\b(?:my|his|her|our|their) (?:(?!that |which |and )[\w-]+ ){1,2}(?:has|have|had|must|needs?|should|is|was|are|were|can|may|wants?|expects?|asks?|requires?)\b[^,.;]*$"
    r"|\byour (?:[\w-]+ ){1,3}(?:was|were|had|contained)\b[^,.;]*$",
    re.I,
)
"""Matches the beginning of a sentence that tells a story, or describes another text."""
_REQUEST = re.compile(
    r"^\W*+(?:(?:hey|hi|hello|please|ok|so)\W*+)?(?:can|could|would|will|may) (?:you|i|we)\b(?! (?:rather|prefer|agree|recommend))",
    re.I,
)
_ASKED_AFTER = re.compile(
    r"[:)]|[,—–-] ?(?:\w+ ){0,2}?(?:what|how|why|who|when|where|which|is|are|can|do|does|did|should|was)\b(?!\W*$)",
    re.I,
)
"""Matches a question after a demand: "In ten words, why does it rain?"."""
_WONDERS = re.compile(r"^\W*(?:what|why|who|how (?!do i|can i|to|many)|where|when)\b", re.I)
_NOT_HERE = re.compile(
    r"(?:\b(?:not|never|avoid|without|nothing|nobody|no one|none|refrain|stop|quit)|n['’]t)\b(?! (?:only|forget|hesitate))",
    re.IGNORECASE,
)
_CLAUSE = re.compile(
    r"[,.;:]|\b(?:and|but|then)\s(?=(?:please |also |it |you |your \w+ |the \w+ )?(?:should|must|use|write|have|keep|make|"
    r"contain|include|respond|answer|reply|be|limit|wrap|highlight|add|end|finish|start|only|mention|put|in|with)\b)",
    re.IGNORECASE,
)


def is_negated(before: str) -> bool:
    """Return whether the text before a match negates the match."""
    return _NOT_HERE.search(_CLAUSE.split(before)[-1]) is not None


Found = Iterator[str]
Rule = Callable[[Sentence], Found]
"""A function that yields the checks that a sentence demands. An unsure rule yields nothing."""

_LANGUAGE = (
    r"(?:python|java(?:script)?|typescript|c\+\+|c#|sql|mongodb|bash|shell|html|css|php|ruby|rust|golang|kotlin"
    r"|excel|vba)"
)
CODE = re.compile(
    r"\b(?:write|create|implement|generate|make|need|develop|design|convert|refactor|build|how (?:do|to))\b"
    rf"[^.?!\n]{{0,80}}\b(?:(?:in|using|with) {_LANGUAGE}"
    rf"|{_LANGUAGE} (?:\w+ )?(?:code|function|script|program|class|method|query|test)s?"
    r"|functions?|quer(?:y|ies)|unit tests?|arrays?|for loop|algorithm|dictionary with"
    r"|(?:script|program|class|method) (?:that|which|to))(?!\w)",
    re.IGNORECASE,
)
"""Matches a prompt that asks for a program. No checks are derived, because demands concern the program."""
