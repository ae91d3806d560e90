r"""Forms as grammars of llguidance, which is inside llama.cpp, vLLM and SGLang.

A form without counts is one regular expression. Any other is a row of words, each a lexeme of its own:
counting inside a regular expression multiplies its states, llguidance's lexer gives up ("too many expressions
constructed"), and llama.cpp goes on without any grammar. A word is bounded, because a model that may not
write another word would go on without spaces. A text that must come is a lexeme beside the word, which is any
other word then.

`max_tokens` ends a lexeme wherever it is. So it bounds free text only, and what follows ends the sentence.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import reduce

from redraft.steering.form import ANY, Form

HEAD = "%llguidance {}\n"
CLOSE = 0.7  # share of the tokens after which a text ends at the next end of a sentence
WORDS = 0.55  # words of a token: English has 0.75, lists and names have fewer
LISTED = 0.42  # the same where the answer must come to a given end, even if it is a list
LONGEST = 16  # words of a sentence that is to end
SENTENCE = 12  # words of a usual sentence

_ANYTHING = "(?s:.*)"
# What is surely outside a word.
_OUT = r"[\x00-\x20\u{22}!#$%&()*+\-\u{2f}<=>?@\[\u{5c}\]^`{|}~\u{a0}«»“”„–—…\u{3000}、。]"
_LINKS = "['’.:,;]*"  # within a word between two letters or digits: don't, 3.14
_BEFORE = f"(({_ANYTHING}{_OUT})?{_LINKS})?_*"  # of a whole word
_AFTER = f"_*({_OUT}{_ANYTHING}|{_LINKS}({_OUT}{_ANYTHING})?)"
_IN = r"A-Za-z0-9\u{c0}-\u{1fff}\u{3040}-\u{fdff}"  # ranges: Unicode's classes are too much for the lexer
_MARKS = "\"'(),;:*[]{}<>/|\\=_#@&%+~^`$" + ".!?"  # around a word, and not within
_STOPS = ".!?"
_OPENS = '"(*'  # an apostrophe before a vowel is part of the word for some
_CLOSERS = "\"'*"
_SPACE = r"[ \n]{1,2}"
_LETTERS = {"": r"A-Za-z0-9\u{c0}-\u{1fff}", "lower": r"a-z0-9\u{df}-\u{ff}", "upper": r"A-Z0-9\u{c0}-\u{de}"}


def lark(form: Form, tokens: int) -> str:
    """Return the grammar of a form, for a text of at most `tokens` tokens. Empty for any text."""
    if form == Form():
        return ""
    if form.schema is not None:
        return HEAD + Words(form, tokens).json()
    fixed = form.has or form.opening or form.closing or form.postscript
    if fixed or form.words != ANY or form.sentences != ANY:
        return HEAD + Words(form, tokens).text()
    return HEAD + _free(form, tokens)


def stopped(grammar: str, stop: Sequence[str]) -> str:
    """Return a grammar whose text may be followed by one of the strings that end it.

    They are a part of the last word `L`, because the lexer takes the longest lexeme and others have a space.
    """
    ends = "|".join("".join(map(_plain, text)) for text in stop if text)
    if not ends:
        return grammar
    grammar = re.sub(r"(?m)^L: .*$", lambda row: rf"{row[0]} /([ \n]{{0,2}}({ends}))?/", grammar)
    return re.sub(r"(?m)^start: (.*)$", lambda row: rf"start: {row[1]} (/[ \n]{{0,2}}({ends})/)?", grammar)


def _free(form: Form, tokens: int) -> str:
    """Return the grammar of a text of any words."""
    never = _never(form)
    rest = f"[^{never}]*" if never else "(?s:.*)"
    quote = '"\\"" ' if form.quoted else ""
    rules = {
        "start": f"{quote}body tail? {quote}",
        f"body[max_tokens={int(tokens * CLOSE)}]": "BODY",
        "BODY": rf"/[^\s{never}]{rest}/{_lacks(form.lacks)}",
        "tail": "TAIL",
        "TAIL": f"/[^{_STOPS}{never}]*[{_STOPS}]/{_lacks(form.lacks, cut=True)}",
    }
    return _written(rules)


class Words:
    """Writes the grammar of a row of words: `w` is any word, `x` one within a sentence, `Z` ends one."""

    def __init__(self, form: Form, tokens: int) -> None:
        self.form = form
        tied = bool(form.closing or form.postscript)
        self.room = max(int(tokens * (LISTED if tied else WORDS)), 8)  # words
        self.lacks = (*form.lacks, *([form.postscript] if form.postscript else []))
        self.space = _SPACE if form.sentences == ANY else "[ ]"  # a line break may end a sentence
        self.rules: dict[str, str] = {"start": ""}
        self.stop = self._class(_STOPS)
        stop = self.stop + self._class(_CLOSERS) + "?"
        self.rules |= {
            "w": "W",
            "W": self._word(self.space),
            "x": "X",
            "X": self._word(self.space, within=True),
            "Z": self._word(stop, within=True),
            "S": self._word(f"{self._class(':' + _STOPS)}{self._class(_CLOSERS)}?{_SPACE}", within=True),
            "L": self._word(""),
            "Y": f"/{_SPACE}/",
            "O": f"/{self._class(',:;')}?{self.space}/",
        }

    def text(self) -> str:
        """Return the grammar of a text."""
        form = self.form
        quote = ['"\\""'] if form.quoted else []
        opening = [self._given("OPENING", form.opening), "O"] if form.opening else []
        low, high = self._left()
        keys = len(form.has)
        gap = min(high // (keys + 1), (high - low) // max(keys, 1), LONGEST)
        high = max(high - keys * gap, low, 1)
        body = self._sentences(low, high) if form.sentences != ANY else self._body(low, high)
        self.rules["start"] = " ".join([*quote, *opening, *self._keys(gap), *body, *self._tied(), *quote])
        return _written(self.rules)

    def json(self) -> str:
        """Return the grammar of a small JSON object."""
        most = max(self.room // 9, 3)
        letter = rf"[^\s\u{{22}}\u{{5c}}\x00-\x1f{_never(self.form)}]"
        self.rules |= {
            "start": '"{" gap pair ("," gap pair){0,2} /\\n?/ "}"',
            "gap": r"/[ \n]{0,4}/",
            "pair": 'string ":" gap value',
            "value": 'string | NUMBER | "[" string ("," gap string){0,3} "]"',
            "string": f'"\\"" t{{0,{most}}} T "\\""',
            "NUMBER": r"/-?[0-9]{1,6}(\.[0-9]{1,3})?/",
            "t": 'T " "',
            "T": f"/{letter}{{1,16}}/{_lacks(_words_of(self.lacks))}",
        }
        return _written(self.rules)

    def _left(self) -> tuple[int, int]:
        """Return the fewest and the most words that are free, beside those that are given."""
        form = self.form
        given = len(" ".join([*form.has, form.opening, form.closing, form.postscript]).split())
        low, high = form.words
        most = self.room if high is None else min(self.room, int((high - given) * 0.9))
        return max(low - given, 0), max(most, low - given, 1)

    def _keys(self, gap: int) -> list[str]:
        """Return the row of the texts that must come, in any order if each comes once.

        Args:
            gap: The most words before each.
        """
        texts = self.form.has
        if not texts:
            return []
        names = {text: self._key(f"K{number}", text) for number, text in enumerate(dict.fromkeys(texts))}
        within = self.form.sentences != ANY
        self.rules |= {"g": "G", "G": self._word(self.space, within=within, other=names)}
        words = f"g{{0,{gap}}}" if gap else ""
        if len(names) < len(texts):
            return [part for text in texts for part in (words, names[text])]
        ways = [
            f"{words} {name} keys::set_bit({bit}) %if bit_clear({bit})"
            for bit, name in enumerate(names.values())
        ]
        self.rules["keys::_"] = " | ".join([f'"" %if is_ones([0:{len(names)}])', *ways])
        return ["keys::0x0"]

    def _key(self, name: str, text: str) -> str:
        text, never = self._cased(text), _never(self.form)
        mark = rf"[^\s{_IN}{'' if self.form.sentences == ANY else _STOPS}{never}]"
        first = _plain(text[0]) if self.form.case else _letter(text[0])  # it may begin a sentence
        words = first + self.space.join("".join(map(_plain, word)) for word in re.split(r"\s+", text[1:]))
        self.rules[name] = f"/{self._class(_OPENS)}{{0,2}}{words}{mark}{{0,3}}{self.space}/"
        return name

    def _given(self, name: str, text: str) -> str:
        self.rules[name] = f"/{''.join(map(_plain, self._cased(text)))}/"
        return name

    def _cased(self, text: str) -> str:
        return {"upper": text.upper(), "lower": text.lower()}.get(self.form.case, text)

    def _word(self, end: str, *, within: bool = False, first: str = "", other: Iterable[str] = ()) -> str:
        """Return the lexeme of a word without what the answer does not have.

        Where words are counted, it is one word in every way of counting, but for "don't".

        Args:
            end: What follows it.
            within: It has no mark that ends a sentence.
            first: The class of its first letter.
            other: It is none of these.
        """
        counted = self.form.words != ANY
        letter = rf"[^\s{_codes(_MARKS)}{_never(self.form)}]"
        letter = f"[{_LETTERS[self.form.case]}]" if counted else letter
        least = 3 if end.startswith(self.stop) and self.form.sentences != ANY else 1  # `J.` is an initial
        core = f"[{first}]{letter}{{0,19}}" if first else f"{letter}{{{least},20}}"
        before = self._class(_OPENS) if counted else self._class(_MARKS, *(_STOPS if within else ""))
        after = self._class(",;:)\"'*" if within else ",;:)\"'*" + _STOPS)
        lacks = _lacks(_words_of((*self.lacks, *other)))
        return f"/{before}{{0,2}}/ (/{core}(\\x27{letter}{{1,3}})?/{lacks}) /{after}{{0,3}}{end}/"

    def _class(self, marks: str, *without: str) -> str:
        """Return a class of marks, without those that the answer does not have."""
        banned = {*self.form.without, *without, *('"' if self.form.quoted else "")}
        return f"[{_codes(mark for mark in marks if mark not in banned)}]"

    def _body(self, low: int, high: int) -> list[str]:
        """Return the row of the free words. They end with a sentence if they are many, or more follows."""
        slack = min(LONGEST, high // 3, high - low)
        many = max(high - slack - 1, low - 1, 0)
        first = f"w{{{max(low - 1, 0)},{many}}}" if many else ""
        within = f"x{{0,{slack}}}" if slack else ""
        if not (self.form.closing or self.form.postscript):
            return [first, f"(L | {within} Z)"]
        whole = self.form.postscript or not self.form.closing[0].islower()
        row = f"{first} {within} {'S' if whole else ''}"
        return [row if low or self.form.has else f"({row})?"]

    def _sentences(self, low: int, high: int) -> list[str]:
        """Return the row of the sentences. The bounds on words are shared out among them."""
        form = self.form
        few, many = max(form.sentences[0] - form.given_sentences, 1), form.sentences[1]
        most = max(many - form.given_sentences, 1) if many is not None else max(high // SENTENCE, few)
        least = max(-(-low // few) - 1, 1)
        most = max(min(most, high // max(least + 1, SENTENCE if form.words == ANY else 1)), few)
        length = max(min(high // (few if form.words == ANY else most), 2 * LONGEST) - 1, least)
        self.rules["C"] = self._word(self.space, within=True, first="a-z" if form.case == "lower" else "A-Z")
        another = f"Y C x{{{least - 1},{length - 1}}} Z" if length > 1 else "Y C Z"
        more = [f"({another}){{{few - 1},{most - 1}}}"] if most > 1 else []
        tied = ["Y"] if form.closing or form.postscript else []
        return [f"x{{{least},{length}}} Z", *more, *tied]

    def _tied(self) -> list[str]:
        """Return the row of the end that was asked for."""
        row = []
        if self.form.postscript:
            row += [self._given("PS", self.form.postscript), "Y", "x{1,12} Z"]
        if self.form.closing:
            row += [*(["Y"] if row else []), self._given("CLOSING", self.form.closing)]
        return row


def _written(rules: dict[str, str]) -> str:
    """Return rules as text. Those that no other names are left out."""
    used, todo = {"start"}, ["start"]
    while todo:
        names = set(re.findall(r"\w+", rules[todo.pop()]))
        named = {rule for rule in rules if re.match(r"\w+", rule)[0] in names}  # type: ignore[index]
        todo += named - used
        used |= named
    return "".join(f"{name}: {body}\n" for name, body in rules.items() if name in used)


def _never(form: Form) -> str:
    """Return what stands in a class of characters for those that the answer does not have."""
    banned = "".join(sorted(form.without)) + ('"' if form.quoted else "")
    return _codes(banned) + {"upper": r"\p{Ll}", "lower": r"\p{Lu}"}.get(form.case, "")


def _lacks(texts: Iterable[str], *, cut: bool = False) -> str:
    """Return the part of a terminal that has none of some texts, as whole words in any case.

    It leaves to the check what only the check can tell, and forbids nothing that the check allows.

    Args:
        texts: The texts.
        cut: What comes before may have been cut within one of them, so it does not begin with an end of one.
    """
    found: dict[tuple[str, str], list[str]] = {}
    for text in map(str.strip, texts):
        units = _units(text)
        after = _AFTER if _is_edge(text[-1]) else _ANYTHING
        found.setdefault((_BEFORE if _is_edge(text[0]) else _ANYTHING, after), []).append("".join(units))
        if cut and len(units) > 1:
            ends = reduce(lambda end, unit: f"({end})?{unit}", units[2:], units[1])
            found.setdefault(("", after), []).append(ends)
    ways = [f"{before}({'|'.join(each)}){after}" for (before, after), each in found.items()]
    return f" & ~/{'|'.join(ways)}/" if ways else ""


def _words_of(texts: Iterable[str]) -> list[str]:
    """Return the texts that are looked for in a word: those of one word."""
    return [text for text in texts if len(text.split()) == 1]


def _units(text: str) -> list[str]:
    """Return the characters of a text as regular expressions."""
    return [r"\s+" if part.isspace() else _letter(part) for part in re.findall(r"\s+|\S", text)]


def _is_edge(char: str) -> bool:
    """Return whether a word begins or ends at a character. Each character of Chinese is a word of its own."""
    return char.isalnum() and not unicodedata.name(char, "").startswith(("CJK", "HIRAGANA"))


def _letter(char: str) -> str:
    """Return a letter in both cases. `(?i)` would take letters beyond ASCII for it."""
    if char in "'’":
        return "['’]"
    both = {char.lower(), char.upper()}
    if len(both) == 2 and all(len(each) == 1 for each in both):
        return f"[{''.join(sorted(both))}]"
    return _plain(char)


def _plain(char: str) -> str:
    return char if char.isalnum() else _codes(char)


def _codes(chars: Iterable[str]) -> str:
    """Return characters as a regular expression and a class of it have them."""
    return "".join(char if char in "\"',;:!<>=_#@&%~`" else f"\\u{{{ord(char):x}}}" for char in chars)
