"""Rules for amounts: numbers of words, sentences, characters, paragraphs, lines, bullet points, items and headings."""

# ruff: noqa: E501  (a pattern is read most easily in one piece)
from __future__ import annotations

import re

from redraft.checks.derive.sentences import OF_PARTS, Found, Sentence, compiled, is_negated
from redraft.checks.derive.wording import NO
from redraft.checks.text import Count

_NUMBERS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"),
    *("twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
)
_OF_WORD = {word: number for number, word in enumerate(_NUMBERS)} | {"a single": 1, "single": 1}
_OF_WORD |= {"thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "hundred": 100, "a hundred": 100}
NUMBER = rf"(?:\d{{1,3}}(?:,\d{{3}})+|\d{{1,6}}|{'|'.join(sorted(_OF_WORD, key=len, reverse=True))})"

_BEFORE = {
    ("least", 0): r"at ?least|(?:a )?min(?:imum|\.)?(?: of)?|no fewer th[ae]n|(?:no|not) less th[ae]n",
    ("least", 1): r"(?:more|longer|greater) th[ae]n|over",
    ("most", 0): (
        r"at (?:the )?most|(?:a |the )?max(?:imum|\.)?(?: length)?(?:,? of| is)?:?|(?:no|not) (?:more|longer) th[ae]n"
        r"|up to|within|(?:not|n['’]t) (?:exceed|go over)|not exceeding|not over|stick to"
        r"|keep (?:it|(?:this|your|the)(?: \w+)?) (?:down )?to|(?:only|just) (?:allows?|takes?|accepts?|fits)"
        r"|(?:(?:i|we) (?:only )?have |there(?:['’]s| is) )?(?:only |just )?(?:room|space) for(?: just| only)?"
        r"|you (?:only )?have|(?:i|we) only have"
        r"|limit(?:ed)?(?: (?!of|to|is|at)\w+){0,3} (?:of|to|is|at)|limit:"
    ),
    ("most", -1): r"(?:less|fewer|shorter) th[ae]n|under|below",
    ("exact", 0): r"exactly|precisely|only|just",
    ("in", 0): (
        r"in|of|as|(?:should|must|has to|needs to) (?:be|have|contain)|fits? (?:in|on|into|onto)|(?:make|keep) (?:it|this|that)|write|between|using|with|use|give(?: me| us)?|get|want|need"
        r"|list|make|create|provide|produce|to|into"
    ),
}
"""Patterns of the words before a number. `("least", 1)` adds 1: "more than 5" means at least 6."""
_LEAST_AFTER = r"or more|or longer|and more|and above|minimum|min|at ?least|\+"
_MOST_AFTER = r"or less|or fewer|or shorter|and under|or under|maximum|max|at (?:the )?most|tops?|limit"

_ALL_BEFORE = "|".join(_BEFORE.values())
_AMOUNT = (
    rf"(?:\b(?P<before>{_ALL_BEFORE})\s(?:a total of\s)?)?(?<![\w.,$€£/-])(?P<n>{NUMBER})(?![\d.]*\d)"
    rf"(?:\s?(?:to|and|or|-|–)\s?(?P<m>{NUMBER}))?(?:\s?(?P<mid>{_LEAST_AFTER}|{_MOST_AFTER}))?"
)
_AFTER = rf"(?:,? (?P<post>{_LEAST_AFTER}|{_MOST_AFTER})(?!\w| \d))?(?!,? (?:and )?max\w* (?:of )?\d)"
_NOT_ALL = r"(?! (?:that|which|who|from|of (?:the|each|every|your|my|this|these|those|code)|per|each|starting|beginning|are|with|should|must|long ago|an? (?:day|week|time|minute)|left to|to (?:say|live|learn)(?=[.!?]|$))\b)"

_KIND_OF = r"(?:(?!(?:word|line|letter|syllable|sentence|paragraph|more|extra|other|additional|new|last|first|next)\b)[a-z]+ )?"
UNITS = {
    "words": rf"{_KIND_OF}words?\b{_NOT_ALL}(?! in (?!length|total))",
    "sentences": rf"{_KIND_OF}sent[ae]n[cs]es?\b{_NOT_ALL}",
    "characters": rf"(?:cha?ra?cters?|chars?|letters and spaces)\b{_NOT_ALL}(?! in (?!length|total))",
    "paragraphs": rf"{_KIND_OF}para?gra(?:ph|f)e?s?\b{_NOT_ALL}",
    "lines": rf"{_KIND_OF}lines?\b{_NOT_ALL}",
    "bullets": rf"{_KIND_OF}{_KIND_OF}bull?et(?:ed)?(?:[ -]?(?:points?|list items|items)|s\b)",
    "items": r"(?:clearly )?numbered (?:[a-z]+ )?(?:steps|items|points|tips|lines|instructions)\b",
    "headings": rf"{_KIND_OF}(?:sub)?-?head(?:ing|er)s?\b{_NOT_ALL}",
}
"""A pattern for each unit's names, with common misspellings."""
_EXACT = {"sentences", "paragraphs", "lines", "bullets", "items"}
"""Units for which "in three" means exactly three. "In 50 words" may mean about 50."""
_SHORT = 3
"""The highest N for which "in N words" means exactly N."""
_GREETED = {"sentences", "paragraphs", "lines"}
"""Units that also count a letter's greeting and signature, so that an upper bound is unsure."""
_LETTER = (
    r"\b(?:write|draft|compose|need|send|make|help|create|prepare|reply to|answer)\b[^.?!]{0,60}"
    r"(?<!case )(?<!capital )(?<!small )(?<!all )(?<!the )\b(?:letter|e-?mail)s?\b(?! [a-z]\b)"
)
_SECOND = re.compile(
    r"\b(?:answer|reply|say|name|write|give|list|tell|translate|suggest|recommend|pick|choose|define|yes or no)\b.*"
    r"\b(?:and|then|plus)\b.*\b(?:explain|describe|justify|add|give|write|say why|summari[sz]e|tell)\b[^,]*$|\band an?\s*$",
    re.IGNORECASE,
)
"""Matches the text before the length of a second part of the answer: "yes or no, and explain in ..."."""
_PREPOSITION = (
    r"(?:\s(?:to|at|under|below|in|is|are|should|must|with|of|shorter|within|no|max|that)\b[^,.;]*)?\s*$"
)
_OF_A_PART = re.compile(
    r"(?:\b(?:the|your|its|(?:with|and|plus|add|has|including) an?) (?:headline|title|subject(?: line)?|intro|introduction|opening|conclusion|ending"
    r"|greeting|hook|chorus|verse|heading)|\b(?:sentences|paragraphs|bullets|points|lines|steps|tips|items|titles"
    r"|headlines|headings|answers|ideas|examples|stanzas|verses|names|options|captions|questions))"
    + _PREPOSITION,
    re.IGNORECASE,
)
_SEVERAL = re.compile(
    rf"\b(?:(?!an?\b|one\b|single\b|1\b){NUMBER}|several|some|few|many) (?:[\w-]+ )?(?:e-?mails|letters|tweets|posts|messages|slogans|mottos|taglines"
    r"|captions|headlines|titles|jokes|poems|haikus|limericks|stories|ads|reviews|names|hooks|bios|lines)\b[^.;]*$",
    re.IGNORECASE,
)
"""Match the text before an amount that limits one part of the answer, or each of several texts."""
_CHANGES = re.compile(
    r"\b(?:by|add|cut|remove|delete|read|teach me|learn|insert|drop|replace|find|count)(?: (?:it|this|that|another|up|out))*\s*$",
    re.IGNORECASE,
)
"""Matches the text before an amount that is not the answer's length: "cut 50 words", "learn 5 words"."""
_FOLLOWED = re.compile(
    r"(?: of \w+ \w+)? and (?!a m(?:ax|in)imum)(?:an?|one|another|the)\b|[^.;]{0,60}?(?:,|\band)\s(?:then(?! (?:end|finish))|after that|afterwards|followed by|plus)\b"
    r"|[^.;]{0,60}?\band (?:explain|describe|add|go into|an? (?:\d+|[a-z]+)-(?:word|sentence|paragraph|line))\b",
    re.IGNORECASE,
)
"""Matches the text after an amount that limits only the first part of the answer."""
_OTHER_UNITS = {
    "characters": r"\b(?:story|stories|play|novel|script|film|book|comic|scene|drama|plot|tale|fable|dialogue|movie|game)\b",
    "words": r"\b(?:synonyms?|antonyms?|rhymes?|vocabulary|words (?:that|which|meaning))\b",
}
"""Patterns of prompts in which a unit's name may have another meaning: a story's characters."""
_OPEN = re.compile(r"(?:^|[,(:;–—-]|\bplease)\s*$", re.IGNORECASE)
_SHUT = re.compile(r"(?:\s*(?:only|please|pls|plz|thanks|total|long))*\s*(?:$|[,.:;!?)–—-])", re.IGNORECASE)
"""Match the texts before and after an amount in a separate phrase: "a rap about tea, 8 lines"."""

Bounds = tuple[int | None, int | None]


def number(word: str) -> int:
    """Return the value of a number in digits or words."""
    return _OF_WORD[low] if (low := word.lower()) in _OF_WORD else int(word.replace(",", ""))


def lengths(sentence: Sentence) -> Found:
    """Yield checks of the answer's length."""
    # "3 bullets, each under 10 words": after one count, "each" can only mean the counted parts.
    counted = compiled(r"(?:,| \() ?(?:with )?each\b(?= \w)[^?]*").sub("", sentence.text)
    both = compiled(r"\b(?:both|every)\b").search(counted)
    if not both and [number(each) > 1 for each in compiled(rf"\b{NUMBER}\b").findall(counted)] == [True]:
        sentence = Sentence(counted, sentence.of)
    if OF_PARTS.search(sentence.text):
        return
    for unit, noun in UNITS.items():
        yield from _limits(sentence, unit)
        greeted = unit in _GREETED and sentence.of.has(_LETTER)
        if unit in _OTHER_UNITS and sentence.of.has(_OTHER_UNITS[unit]):
            continue
        for match in sentence.all(rf"{_AMOUNT}(?P<joint>[\s-]){noun}{_AFTER}", negated=True, closing=True):
            before = sentence.before(match)
            alone = _OPEN.search(before) and _SHUT.match(sentence.text, match.end())
            part = any(each.search(before) for each in (_SECOND, _OF_A_PART, _SEVERAL, _CHANGES))
            if part or _FOLLOWED.match(sentence.text, match.end()):
                continue
            bounds = _bounds(match, unit, before, alone=bool(alone))
            if bounds and (bounds[1] is None or (bounds[1] > 0 and not greeted)):
                yield Count(unit, *bounds).name


def _limits(sentence: Sentence, unit: str) -> Found:
    both = rf"\bmin\w* (?:of )?(?P<n>{NUMBER}) {unit},? (?:and )?max\w* (?:of )?(?P<m>{NUMBER})"
    for match in sentence.all(both):
        yield f"{unit}={number(match['n'])}..{number(match['m'])}"
    limit = rf"\b(?:{unit[:-1]} (?:limit|maximum)|max(?:imum)? {unit[:-1]} count)(?: for (?:\w+ ){{1,3}}?)?"
    for match in sentence.all(rf"{limit}(?: ?is| ?of|:)? (?P<n>{NUMBER})\b"):
        yield f"{unit}<={number(match['n'])}"
    answer = rf"^\W*(?:in )?(?P<k>{NUMBER}) words?\W*$|(?P<n>{NUMBER})[- ]words? (?:answer|reply|response)s?\b|\b(?:answer|reply|respond)(?: \w+)? with (?:just |only |exactly )?(?P<m>{NUMBER}) words?\b(?! or| and)"
    for match in sentence.all(answer) if unit == "words" else ():
        n = number(match["k"] or match["n"] or match["m"])
        if n <= _SHORT and not _FOLLOWED.match(sentence.text, match.end()):
            yield f"words=={n}"


def _bounds(match: re.Match[str], unit: str, before: str, *, alone: bool) -> Bounds | None:
    n, word, after = number(match["n"]), (match["before"] or "").lower(), match["mid"] or match["post"] or ""
    says, more = next((key for key, form in _BEFORE.items() if re.fullmatch(form, word)), ("", 0))
    high = number(match["m"]) if match["m"] else n
    if after:
        at_least = re.fullmatch(_LEAST_AFTER, after.lower())
        return None if says in ("least", "most") else (n, None) if at_least else (None, high)
    if high < n or (is_negated(before) and (high > n or not more)):
        return None
    if is_negated(before):
        return (None, n) if says == "least" else (n, None)
    if says in ("least", "most"):
        return (n + more, None) if says == "least" else (None, high + more)
    if high > n or says == "exact":
        return n, high
    return _plain(match, unit, before, alone=alone)


def _plain(match: re.Match[str], unit: str, before: str, *, alone: bool) -> Bounds | None:
    n, word = number(match["n"]), (match["before"] or "").lower()
    stands = alone or re.fullmatch(_BEFORE["in", 0], word)
    if word == "of" and not re.search(r"\ban?\b[^,.;]*$", before, re.IGNORECASE):  # as in: one of 3 lines
        return None
    if unit == "headings":  # a title may count as another heading
        return (n, None) if stands else None
    if unit in _EXACT:
        joined = match["joint"] == "-" or (n > 1 and match[0].lower().endswith(unit[:-1]))
        more = re.match(r" (?:and|or)\b", match.string[match.end() :])
        compound = joined and unit in _GREETED and not more  # a 4-sentence text
        return (n, n) if stands or compound else None
    said = word == "in" or match.string.startswith(" long", match.end())
    return (n, n) if unit == "words" and n <= _SHORT and said else None


_KINDS = r"(?P<kind>numbered|ordered|bullet(?:ed)?(?:[ -]points?)?|to-?do|check)"
_GIVE = (
    r"(?:give|write|make|create|need|want|like|provide|show|send|compile|produce|suggest|generate|draft|prepare|(?:can|could|may) (?:i|we) (?:have|get)|"
    r"output|return|answer|reply|respond|put together|come up with|draw up|with|as)"
)
_MEASURES = r"(?:words|sentences|paragraphs|characters|lines|pages)\b"
_LINE_EACH = r"\b(?:one|each|every \w+) (?:\w+ )?(?:per|on (?:an?|its|their|one) (?:own |new |separate )?)\s?line\b|\bone (?:a|to a) line\b"


def lists(sentence: Sentence) -> Found:
    """Yield checks of a list's length: "list five rivers"."""
    of = (
        rf"(?:^\W*|\b{_GIVE}\b[^.?!:]{{0,30}}?\b)(?:(?:an?|your|one) )?(?:(?:short|simple|quick|{_KINDS}) )*"
        rf"(?:check)?list (?:of|with) (?:exactly |only |the )?(?:top )?(?P<n>{NUMBER}) \w(?![^,;]*\b(?:is|are|was|were|has|had)\b)"
    )
    verb = rf"(?:^\W*|[.:,] |please |\band )list (?:exactly |only |out |the |me |top )*(?P<n>{NUMBER}) (?!of the\b)\w"
    form = rf"\b(?P<n>{NUMBER}) (?!{_MEASURES})(?:[\w'’-]+,? ){{1,8}}?(?:(?:as|in) (?:an? |the form of an? )?{_KINDS} list|numbered(?=[.!]?$))"
    top = rf"\b(?:top[ -]|an? )(?P<n>{NUMBER})[ -](?:(?:item|point|entry) )?list\b"
    name = rf"(?:^\W*|[.:,] |\b(?:please|and|you) )(?:name|list|give|suggest|write|tell)\b(?: me| us| the| out)*(?: exactly)? (?P<n>{NUMBER}) \w"
    points = rf"(?:^\W*|[.:,] |\bplease )(?:name|list|give|suggest|provide)\b(?: me| us| exactly)* (?P<n>{NUMBER}) (?!{_MEASURES})(?:[\w'’-]+ ){{0,8}}?[\w'’-]+,? (?:as|in) (?P<kind>bullets|bullet[ -]points)\b"
    each = sentence.of.has(_LINE_EACH)
    for pattern in (name, of) if each else (of, verb, form, points, top):
        for match in sentence.all(pattern):
            if compiled(rf"[^.,;]*\band {NUMBER} ").match(sentence.text, match.end()):  # 3 pros and 3 cons
                continue
            kind = match.groupdict().get("kind") or ""
            if (count := number(match["n"])) > 1:
                yield f"{'lines' if each else 'bullets' if 'bullet' in kind.lower() else 'items'}=={count}"


_AFTERWARDS = (
    rf",? \(?(?:(?:max\.?|at most|up to|no more than) (?P<n>{NUMBER})|(?P<m>{NUMBER}) (?:max|at most|tops|or fewer|or less))"
    r"\b(?! each| per| words| characters| sentences| lines)"
)
UNNUMBERED = r"lacks[regex]:(?m)^\s*\d+[.)]"  # no line begins with the number of an item
_SHAPES = {
    "bullets": r"bull?et(?:ed)?(?:[ -]?(?:points?|list|form|lists)|s)\b",
    "items": r"(?:numbered|ordered|numerical) lists?\b",
    "headings": r"(?:sub)?-?head(?:ing|er)s\b",
}


def shapes(sentence: Sentence) -> Found:
    """Yield checks that demand or forbid bullet points, a numbered list or headings."""
    for unit, noun in _SHAPES.items():
        used = rf"\b(?:in|as|use|using|with|into|add|include)\s(?:(?!(?:{NUMBER}|for|of|from|about|on|under|without|no|the|my|your)\b)[a-z]+\s){{0,3}}?{noun}"
        if unit != "headings":
            used += rf"|^\W*{noun}(?=\W*$)|\b(?:give|make|create|write|provide|want|need|produce)\s(?:(?:me|us|a|an|the|some)\s){{0,2}}{noun}"
        for match in sentence.all(rf"(?P<no>{NO}(?:\w+(?:,| or| and)\s){{0,2}}{noun})|{used}", negated=True):
            none = match["no"] or is_negated(sentence.before(match))
            count = compiled(_AFTERWARDS).match(sentence.text, match.end())
            most = f"<={number(count['n'] or count['m'])}" if count else ">=1"
            yield f"{unit}{'==0' if none else most}"
    if any(sentence.all(rf"{NO}numbering\b", negated=True)):
        yield UNNUMBERED
    if any(sentence.all(rf"{NO}(?:bullets?(?: points?)? (?:or|and) )?lists?\b(?! of)", negated=True)):
        yield "items==0"
