"""Render Markdown as the HTML of shared chat pages, and find the code blocks of a text.

Only the Markdown of the benchmark's conversations is supported: paragraphs, lists, headings, emphasis, inline
code and fenced blocks. Blocks become those of ChatGPT's page, with a bar (language, `Copy code`) and with
colours in `<span>`.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass

_FENCE = re.compile(
    r"^(?P<fence>`{3,})(?P<language>[\w+#-]*)[^\S\n]*\n(?P<code>.*?)\n?^(?P=fence)[^\S\n]*$", re.M | re.S
)
_COLOURED = re.compile(
    r"(?P<string>&quot;[^&\n]*&quot;|'[^'\n]*')|(?P<number>\b\d+\b)|(?P<keyword>\b(?:def|return|if|else|for|while|int|import|from)\b)"
)
_BAR = (
    '<div class="flex items-center relative text-gray-200 bg-gray-800 px-4 py-2 text-xs font-sans">'
    '<span>{language}</span><button class="flex ml-auto gap-2"><svg stroke="currentColor" fill="none"'
    ' viewBox="0 0 24 24" height="1em" width="1em"><path d="M16 4h2a2 2 0 0 1 2 2v14"></path></svg>'
    "Copy code</button></div>"
)
_INLINE = (
    (re.compile(r"`([^`\n]+)`"), r"<code>\1</code>"),
    (re.compile(r"\*\*([^*\n]+)\*\*"), r"<strong>\1</strong>"),
    (re.compile(r"(?<![*\w])\*([^*\s][^*\n]*)\*(?!\w)"), r"<em>\1</em>"),
)


@dataclass(frozen=True)
class Block:
    language: str
    code: str

    def html(self) -> str:
        name = f" language-{self.language}" if self.language else ""
        bar = _BAR.format(language=self.language)
        return (
            f'<pre><div class="bg-black rounded-md mb-4">{bar}<div class="p-4 overflow-y-auto">'
            f'<code class="!whitespace-pre hljs{name}">{_coloured(self.code)}\n</code></div></div></pre>'
        )


def _coloured(code: str) -> str:
    return _COLOURED.sub(
        lambda found: f'<span class="hljs-{found.lastgroup}">{found[0]}</span>', html.escape(code)
    )


def cut(markdown: str) -> Iterator[str | Block]:
    end = 0
    for found in _FENCE.finditer(markdown):
        yield markdown[end : found.start()]
        yield Block(found["language"], found["code"].rstrip("\n"))
        end = found.end()
    yield markdown[end:].replace("```", "'''")


def fences_of(markdown: str) -> list[Block]:
    return [part for part in cut(markdown) if isinstance(part, Block)]


def render(markdown: str) -> str:
    parts = (part.strip() for part in re.split(r"\n\s*\n", markdown))
    return "\n".join(_paragraph(part) for part in parts if part)


def _paragraph(text: str) -> str:
    if heading := re.fullmatch(r"(#{1,6}) +(.+)", text):
        level = len(heading[1])
        return f"<h{level}>{_inline(heading[2])}</h{level}>"
    for tag, mark in (("ol", r"(\d+)[.)] +"), ("ul", r"[-*]() +")):
        lines = text.split("\n")
        marks = [re.match(mark, line) for line in lines]
        if all(marks) and (first := marks[0]):
            items = "".join(f"<li><p>{_inline(re.sub(f'^{mark}', '', line))}</p></li>" for line in lines)
            start = f' start="{first[1]}"' if first[1] not in ("", "1") else ""
            return f"<{tag}{start}>{items}</{tag}>"
    return f"<p>{_inline(text)}</p>"


def _inline(text: str) -> str:
    text = html.escape(text, quote=False)
    for pattern, replacement in _INLINE:
        text = pattern.sub(replacement, text)
    return text.replace("\n", "<br>")
