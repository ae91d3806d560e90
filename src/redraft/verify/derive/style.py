"""Rules for case, marks and language."""

# ruff: noqa: E501  (a pattern is read most easily in one piece)
from __future__ import annotations

import re

from redraft.collect.language import BY_NAME
from redraft.verify.derive.amounts import AMOUNT, CAPITALS, TAIL, bounds_in, ifeval, limits
from redraft.verify.derive.sentences import Found, Sentence
from redraft.verify.derive.wording import NO


def case(sentence: Sentence) -> Found:
    """Yield that all letters are small, or all capitals."""
    small = (
        r"\b(?:all|only|entirely|completely) (?:in |use )?(?:the )?(?:lower[- ]?case|small letters)|\blower[- ]?cased?(?: letters?)? only"
        r"|\b(?:no|without|not contain|not use|not include|avoid|any|using) (?:using |any |use of )*capital(?:i[sz]ed)?(?: letters?|i[sz]ations?)\b(?! only)"
        r"|\ball (?:the )?letters (?:in [\w ]{1,30} )?(?:must be |should be |are |in )?lower[- ]?case|\bnot a single letter [\w ]{1,40}capitali[sz]ed"
    )
    if (
        any(True for _ in sentence.all(small))
        and not re.search(r"using capital|any capital", sentence.text, re.I)
    ) or any(
        re.search(
            r"\b(?:not|n't|without|no|never|avoid)\b",
            sentence.text[max(0, m.start() - 25) : m.start() + 12],
            re.I,
        )
        for m in sentence.all(r"\b(?:using|any|use) (?:any )?capital(?:i[sz]ed)? letters")
    ):
        yield ifeval("change_case:english_lowercase")
    if CAPITALS.search(sentence.text) or re.search(
        r"\b(?:not|n't|avoid|without|no)\b[^,.;]{0,20}(?:capital|caps|upper)", sentence.text, re.I
    ):
        return
    large = r"\b(?:in|using|with|use) (?:all|only|entirely) (?:capital|caps\b|upper[- ]?case)|\bonly (?:use )?(?:capital|upper[- ]?case) letters|\bcapitali[sz]e (?:all|every)(?: \w+){0,2} (?:words?|letters?)|\bonly in (?:capital|upper)"
    if any(True for _ in sentence.all(large)):
        yield ifeval("change_case:english_capital")


def capital_words(sentence: Sentence) -> Found:
    """Yield how many words stand in capitals."""
    if not sentence.of.has(CAPITALS.pattern) or not re.search(
        r"capital|caps|stress words", sentence.text, re.I
    ):
        return
    for match in sentence.all(rf"{AMOUNT}(?:\stimes?\b|\swords\b|(?=\.?$)){TAIL}|\b(?:never)"):
        bounds = bounds_in(match, "") if match["n"] else None
        for relation, count in limits(bounds) if bounds else ():
            yield ifeval(
                "change_case:capital_word_frequency", capital_relation=relation, capital_frequency=count
            )


def commas(sentence: Sentence) -> Found:
    """Yield that there are no commas."""
    if any(True for _ in sentence.all(rf"{NO}commas?\b|\bno commas?\b|\bcomma[- ]free\b")):
        yield "lacks:,"


def quotation(sentence: Sentence) -> Found:
    """Yield that the whole stands in double quotation marks."""
    wrap = r"\b(?:wrap|wrapped|put|enclose|enclosed|surround|surrounded)\b[^.;]{0,80}\bdouble[- ]quot(?:es|ation)"
    about = r"\b(?:response|answer|output|reply|whole|entire|everything|\bit\b|text)\b"
    if any(re.search(about, sentence.text, re.I) for _ in sentence.all(wrap)) and not re.search(
        r"\b(?:title|name|words?|each|every|not)\b[^.;]{0,40}\bdouble", sentence.text, re.I
    ):
        yield ifeval("startend:quotation")


_CODES = BY_NAME | {
    "bengali": "bn",
    "bulgarian": "bg",
    "czech": "cs",
    "danish": "da",
    "farsi": "fa",
    "finnish": "fi",
    "greek": "el",
    "gujarati": "gu",
    "hebrew": "he",
    "hungarian": "hu",
    "indonesian": "id",
    "kannada": "kn",
    "malayalam": "ml",
    "marathi": "mr",
    "nepali": "ne",
    "norwegian": "no",
    "persian": "fa",
    "punjabi": "pa",
    "romanian": "ro",
    "swahili": "sw",
    "swedish": "sv",
    "tamil": "ta",
    "telugu": "te",
    "thai": "th",
    "urdu": "ur",
    "vietnamese": "vi",
    "catalan": "ca",
    "croatian": "hr",
    "serbian": "sr",
    "slovak": "sk",
}
"""Languages that people ask for, by name -> ISO 639 code."""


def language(sentence: Sentence) -> Found:
    """Yield the language of the answer."""
    names = "|".join(_CODES)
    found = set()
    for match in sentence.all(
        rf"\b(?:in|using|use|only|entirely)\s(?:only\s|entirely\s|the\s|use\s|in\s){{0,3}}(?P<name>{names})\b"
        r"(?=(?: language)?(?:[.,;!?]|$|\s(?:only|and|why|how|language|no other|without|using|please|that)\b))"
    ):
        if re.search(
            r"\b(?:write|written|respond|reply|answer|explain|response|output|describe|be|rewrite|compose|tell|speak|please|summari[sz]e|joke|rubric|poem|haiku)\b",
            sentence.text,
            re.I,
        ):
            found.add(_CODES[match["name"].lower()])
    if found == {"en"} and re.search(r"lower|capital|caps", sentence.text, re.I):
        return  # the checks of case hold answers to English, too
    if len(found) == 1 and not sentence.of.has(r"\b(?:both|two languages|bilingual|translation)\b"):
        yield f"language:{found.pop()}"
