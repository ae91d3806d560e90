"""Rules for the layout: JSON, bullet points, paragraphs, sections, titles, repeated requests."""

# ruff: noqa: E501  (a pattern is read most easily in one piece)
from __future__ import annotations

import re

from redraft.verify.derive.amounts import AMOUNT, NUMBER, bounds_in, divided, ifeval, number
from redraft.verify.derive.sentences import QUOTED, Found, Sentence, compiled
from redraft.verify.derive.wording import WORD


def in_json(sentence: Sentence) -> Found:
    """Yield that the answer is JSON."""
    asked = r"\b(?:in|as|valid|into|use|using|an?|single|output|return|respond with)\s(?:a\s|an\s|the\s|valid\s|single\s|pure\s){0,3}JSON\b(?! (?:parser|schema|file|library|lines|web|api|token))"
    demand = r"\b(?:wrap\w*|output|format|respond|response|answer|return|reply|give|provide|write|block|list|want|entire)\b"
    other = r"\b(?:not|n't|avoid|parse|function|program|script|code|difference)\b[^.;]{0,30}\bJSON"
    if re.search(other, sentence.text, re.I) or not re.search(demand, sentence.text, re.I):
        return
    if any(True for _ in sentence.all(asked)):
        yield "json"


def bullets(sentence: Sentence) -> Found:
    """Yield an exact number of bullet points."""
    for match in sentence.all(
        rf"{AMOUNT}\s(?:[a-z-]+\s){{0,2}}bullet(?:ed)?[- ]?(?:points?|list items|items|s\b)"
    ):
        if (
            (match["before"] or "in").lower() in ("exactly", "in", "only", "write")
            and not (match["m"] or match["plus"] or match["mid"])
            and (count := number(match["n"])) > 0
        ):
            yield ifeval("detectable_format:number_bullet_lists", num_bullets=count)
    if sentence.of.has(r"bullet points? that are indicated by|into bullet points"):
        for match in sentence.all(rf"\bexactly (?P<n>{NUMBER})\b(?! (?:bullet|word|sentence|paragraph))"):
            yield ifeval("detectable_format:number_bullet_lists", num_bullets=number(match["n"]))


def paragraphs(sentence: Sentence) -> Found:
    """Yield the number of paragraphs between lines of asterisks, or with a first word."""
    text = sentence.of
    for match in sentence.all(rf"{AMOUNT}\s(?:[a-z-]+\s){{0,1}}(?:paragraphs?|sections|parts)\b"):
        if (
            (match["before"] or "exactly").lower() in ("exactly", "in", "only")
            and not match["m"]
            and divided(text)
        ):
            yield ifeval("length_constraints:number_paragraphs", num_paragraphs=number(match["n"]))


_ORDINALS = {
    "first": 1,
    "second": 2,
    "third": 3,
    "fourth": 4,
    "fifth": 5,
    "sixth": 6,
    "seventh": 7,
    "eighth": 8,
    "ninth": 9,
    "tenth": 10,
}


def first_words(sentence: Sentence) -> Found:
    """Yield the first word of a paragraph, where the number of paragraphs is known."""
    nth = r"(?P<nth>last|\d{1,2}(?:st|nd|rd|th)|" + "|".join(_ORDINALS) + ")"
    word = rf"(?:with\s)?(?:the\s)?(?:word\s)(?P<word>{QUOTED}|{WORD})"
    pattern = rf"\b{nth} paragraph\s(?:\w+\s){{0,2}}starts?\s{word}|\bstart (?:the )?{nth.replace('nth', 'nth2')} paragraph {word.replace('word>', 'word2>')}"
    many = list(
        compiled(rf"(?<![\w-])(?P<n>{NUMBER})\s(?:[a-z-]+\s)?paragraphs?\b").finditer(
            sentence.of.masked[:20000]
        )
    )
    counts = {number(match["n"]) for match in many}
    for match in sentence.all(pattern):
        place, first = (
            (match["nth"] or match["nth2"]).lower(),
            sentence.phrase(match["word"] or match["word2"]),
        )
        if len(counts) == 1 and first.isalpha() and not divided(sentence.of):
            count = next(iter(counts))
            at = count if place == "last" else _ORDINALS.get(place) or int(place[:-2])
            if 1 <= at <= count:
                yield ifeval(
                    "length_constraints:nth_paragraph_first_word",
                    num_paragraphs=count,
                    nth_paragraph=at,
                    first_word=first.lower(),
                )


def title(sentence: Sentence) -> Found:
    """Yield a title in double angular brackets."""
    if any(True for _ in sentence.all(r"\bdouble angular brackets|<<[^<>]{1,60}>>")):
        yield ifeval("detectable_format:title")


def postscript(sentence: Sentence) -> Found:
    """Yield a postscript with its mark."""
    marks = {
        re.sub(r"\s|\.$", "", found.upper())
        for found in re.findall(r"\bP\.\s?P?\.?\s?S\b", sentence.of.shown(sentence.text))
    }
    if (
        len(marks) == 1
        and re.search(r"\b(?:add|include|end|with|post ?script|starting)\b", sentence.text, re.I)
        and not re.search(r"\b(?:no|not|n't|without|avoid)\b", sentence.text, re.I)
    ):
        yield ifeval(
            "detectable_content:postscript", postscript_marker="P.P.S" if marks == {"P.P.S"} else "P.S."
        )


def highlights(sentence: Sentence) -> Found:
    """Yield how many sections are highlighted with asterisks."""
    if not re.search(r"highlight|itali[cs]", sentence.text, re.I) or not sentence.of.has(
        r"\*[^\s*][^*\n]{0,200}\*|markdown|\"\*\""
    ):
        return
    noun = r"(?:[a-z-]+\s){0,2}(?:sections?|parts?|phrases|words|texts?|sentences|titles)\b"
    for match in sentence.all(rf"{AMOUNT}\s{noun}"):
        if (bounds := bounds_in(match)) and bounds[1] is None and bounds[0]:
            yield ifeval("detectable_format:number_highlighted_sections", num_highlights=bounds[0])


def placeholders(sentence: Sentence) -> Found:
    """Yield how many placeholders stand in square brackets."""
    if not sentence.of.has(r"square brackets?|\[[a-z0-9 ]{2,30}\]"):
        return
    for match in sentence.all(rf"{AMOUNT}\s(?:[a-z-]+\s)?placeholders?\b"):
        if (bounds := bounds_in(match)) and bounds[1] is None and bounds[0]:
            yield ifeval("detectable_content:number_placeholders", num_placeholders=bounds[0])


def sections(sentence: Sentence) -> Found:
    """Yield how many sections are marked `SECTION X`."""
    mark = re.search(
        r"\b(Section|SECTION|PARAGRAPH|Paragraph|Part|PART|Chapter|CHAPTER|Day|DAY) X\b",
        sentence.of.plain[:20000],
    )
    if mark and not divided(sentence.of):
        for match in sentence.all(rf"{AMOUNT}\s(?:[a-z-]+\s)?(?:{mark[1]}|section)s?\b"):
            if (match["before"] or "in").lower() in ("in", "at least", "exactly") and not match["m"]:
                yield ifeval(
                    "detectable_format:multiple_sections",
                    section_spliter=mark[1],
                    num_sections=number(match["n"]),
                )


def two_responses(sentence: Sentence) -> Found:
    """Yield two responses between six asterisks."""
    text = sentence.of
    six = r"(?<!\*)\*{6,7}(?!\*)|\b(?:6|six) aster"
    if (
        sentence.of.has(six)
        and re.search(six, text.shown(sentence.text), re.I)
        and text.has(r"\b(?:two|both|and|2)\b")
    ):
        yield ifeval("combination:two_responses")


_REPEAT = re.compile(
    r"\brepeat (?:the |this |all )?(?:\w+ ){0,2}(?:request|sentence|prompt|text|it)\b(?! \")", re.IGNORECASE
)


def repeats(sentence: Sentence) -> Found:
    """Yield that the request is repeated first: what stands above, or below, the demand to repeat."""
    text = sentence.of.plain
    if not _REPEAT.search(sentence.text) or not sentence.of.has(
        r"\bfirst\b|very beginning|before (?:you|repeating)|anything before"
    ):
        return
    if sentence.of.has(r"only contains|does not contain|repeat \""):
        return
    demand = sentence.of.shown(sentence.text)
    at = text.find(demand)
    above, below = text[: max(at, 0)].strip(), text[at + len(demand) :].partition("\n\n")[2].strip()
    if re.search(r"\b(?:below|following)\b", demand, re.I):
        above = ""
    elif above:
        below = ""
    asked = above or below
    if 10 < len(asked) <= 4000 and not _REPEAT.search(asked) and at >= 0:
        yield ifeval("combination:repeat_prompt", prompt_to_repeat=asked)
