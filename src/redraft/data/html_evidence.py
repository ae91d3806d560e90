"""Decide which texts of a conversation are HTML. Markdown and code stay unchanged, even with tags.

Pages shared from ChatGPT are recognised by CSS classes. Without these, answers are HTML only if every answer
with tags looks like HTML: every `<` begins a prose tag, open tags are closed, no tag is used as a word, and
there is no markdown or code. If a question mentions HTML or asks for a page, HTML in the answers is code. If
the question has only vaguer words, such as "page", answers with a paragraph of prose are HTML.

If the answers are HTML, a question in `<p>` tags is HTML too, and a fully escaped question is decoded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from redraft.data.html import markdown_of
from redraft.data.html_tags import ANY_TAG, decoded

_TELLING = "p div br ul ol li b strong i em a h1 h2 h3 h4 h5 h6 blockquote table"
_PROSE = f"{_TELLING} span hr u s del sub sup small img pre code thead tbody tr th td".split()
_CLASSES = re.compile(
    r'class="[^"<>]*\b(?:markdown|prose|hljs|katex|break-words|whitespace-pre)\b'
    r'|<pre><div class="|<annotation encoding="application/x-tex"'
)
_PARTS = r"(?:web ?(?:site|page)s?|pages?|sites?|markup|tags?|hyperlinks?|anchors?|front.?end)\b"
_MENTIONS = re.compile(rf"\b{_PARTS}", re.I)
_ABOUT = re.compile(
    r"\b(?:(?:html\d?|x?html|xml|jsx|css|divs?|href|web (?:design|development))\b"
    r"|(?:which|what|anchor|body|closing|end|head(?:er|ing)?|image|link|list|meta|opening|paragraph|script"
    r"|start|title) tags?\b"
    # "Write a simple page", but not "write a summary of this page" …
    r"|(?:build|code|create|design|develop|generate|implement|make|program|write)\s+"
    rf"(?:(?!(?:about|at|by|for|from|in|of|on|to|with)\b)\w+\s+){{0,5}}{_PARTS}(?!\s+(?:lines?|names?)\b)"
    # … and "add a title to my page".
    rf"|(?:add|change|debug|edit|fix|insert|style|wrap)\s+(?:[\w'-]+\s+){{0,8}}{_PARTS})",
    re.I,
)
_PARAGRAPH = re.compile(r"<p(?=[\s>])[^<>]*>([^<]*(?:<(?!/?p[\s>])[^<]*)*)", re.I)
_SENTENCE = 6  # fewest words of a paragraph of prose
_NOT_HTML = re.compile(r"`|\n[ \t]+\S|(?:^|\n)(?:[-*+#>|]|\d+[.)]) ")
_PRE = re.compile(r"<pre[^<]*(?:<(?!/?pre)[^<]*)*</pre")
_CODE = re.compile(r"[{};=\\]|\w\(")
_ESCAPED = re.compile(r"&(?:lt|gt|amp|quot|nbsp|#39|#x27);")
_ALONE = frozenset(("br", "hr", "img", "pre"))  # tags without an end tag; `_prose` removes that of `pre`
_MAY_STAY_OPEN = frozenset(("p", "li", "thead", "tbody", "tr", "th", "td"))
_IN_TEXT = {"b", "strong", "i", "em", "a", "span", "u", "s", "del", "sub", "sup", "small", "img", "code"}
_MARKED = re.compile(r"(?:^|\n)[ \t]*(```|~~~)[\s\S]*?(?:\n[ \t]*\1|\Z)|`[^`\n]*`")
_END = re.compile(rf"</(?:{_TELLING.replace(' ', '|')}|span)>")
_BARE = re.compile(r"[<>]|&(?!\w{2,31};|#\w{1,7};)")


@dataclass(frozen=True)
class Evidence:
    """Evidence that shows which texts of a conversation are HTML."""

    shared: bool  # an answer has the classes of a shared page
    pages: bool  # the answers are HTML
    questions: Sequence[str]

    @classmethod
    def of(cls, asked: Iterable[str], answers: Iterable[str]) -> Evidence:
        """Collect the evidence from questions and answers."""
        answers = [text for text in answers if text.strip()]
        if not any("<" in text for text in answers):
            return cls(shared=False, pages=False, questions=())
        questions = tuple(asked)
        if any(map(_shared, answers)):
            return cls(shared=True, pages=True, questions=questions)
        prose = list(map(_prose, answers))
        pages = any(prose) and all(
            html or not ("<" in text or _NOT_HTML.search(text) or _CODE.search(decoded(text)))
            for html, text in zip(prose, answers, strict=True)
        )
        return cls(shared=False, pages=pages and not _is_code(questions, answers), questions=questions)

    def convert(self, speaker: str, text: str) -> str:
        """Convert an HTML message to markdown, or decode a fully escaped message."""
        if speaker == "assistant":
            is_html = _wrapped(text) if self.shared else "<" in text
        else:
            is_html = _shared(text) or _paragraphs(text)
        if is_html:
            return markdown_of(text)
        if not _ESCAPED.search(text) or _BARE.search(text):
            return text
        # In a question about HTML, escapes may be meant literally.
        return text if speaker == "user" and self._about else decoded(text)

    @cached_property
    def _about(self) -> bool:
        return _about(self.questions)


def _shared(text: str) -> bool:
    return _wrapped(text) and bool(_CLASSES.search(text))


def _wrapped(text: str) -> bool:
    text = text.strip()
    return text[:1] == "<" and text[-1:] == ">" and bool(ANY_TAG.match(text))


def _prose(text: str) -> bool:
    text = _PRE.sub("<pre>", text)
    if "<" not in text or _NOT_HTML.search(text):
        return False
    names = {found["name"].lower() for found in ANY_TAG.finditer(text)}
    words = ANY_TAG.sub("", text)
    known = names.issubset(_PROSE) and not names.isdisjoint(_TELLING.split()) and "<" not in words
    wrapped = _wrapped(text)
    return known and (wrapped or not _CODE.search(decoded(words))) and _matched(text, wrapped=wrapped)


def _matched(text: str, *, wrapped: bool) -> bool:
    held: list[tuple[str, int]] = []
    for tag in ANY_TAG.finditer(text):
        name = tag["name"].lower()
        if tag["end"]:
            while wrapped and held and held[-1][0] != name and held[-1][0] in _MAY_STAY_OPEN:
                held.pop()
            if not held or held[-1][0] != name:
                return False
            begin = held.pop()[1]
            if not wrapped and text[begin].isspace() and text[tag.start() - 1].isspace():
                return False
            continue
        # A word between other words, as in `write <p> tags`.
        before, after = text[max(tag.start() - 2, 0) : tag.start()], text[tag.end() : tag.end() + 2]
        is_word = before[:1].isalnum() and before[1:] == " " and after[:1] == " " and after[1:].islower()
        if is_word and not wrapped and name not in _IN_TEXT:
            return False
        if name not in _ALONE:
            held.append((name, tag.end()))
    return not held or (wrapped and all(name in _MAY_STAY_OPEN for name, _ in held))


def has_tags(text: str) -> bool:
    """Return whether a text has end tags of prose elements outside code."""
    return "</" in text and bool(_END.search(_MARKED.sub("", text)))


def _paragraphs(text: str) -> bool:
    return text.lstrip().startswith("<p>") and _prose(text)


def _is_code(questions: Iterable[str], answers: Iterable[str]) -> bool:
    if _about(questions):
        return True
    return any(map(_MENTIONS.search, questions)) and not all(
        any(len(ANY_TAG.sub("", found[1]).split()) >= _SENTENCE for found in _PARAGRAPH.finditer(text))
        for text in answers
        if "<" in text
    )


def _about(questions: Iterable[str]) -> bool:
    return any(_ABOUT.search(text) or (ANY_TAG.search(text) and not _paragraphs(text)) for text in questions)
