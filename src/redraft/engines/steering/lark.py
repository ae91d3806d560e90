r"""Forms as grammars of llguidance, which is inside llama.cpp, vLLM and SGLang.

A form without counts is one regular expression. Any other is a row of words, each a lexeme of its own:
counting inside a regular expression multiplies its states, llguidance's lexer gives up ("too many expressions
constructed"), and llama.cpp goes on without any grammar. A word is bounded, because a model that may not
write another word would go on without spaces. A text that must come is a lexeme beside the word, which is any
other word then.

`max_tokens` ends a lexeme wherever it is. So it bounds free text only, and what follows ends the sentence.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import reduce

from redraft.engines.steering.form import ANY, PLAIN, SLOT_WORDS, Form
from redraft.engines.steering.pattern import pattern_of
from redraft.engines.steering.phrase import ANYTHING, SYLLABLES, around

HEAD = "%llguidance {}\n"
CLOSE = 0.7  # share of the tokens after which a text ends at the next end of a sentence
WORDS = 0.55  # words of a token: English has 0.75, lists and names have fewer
LISTED = 0.42  # the same where the answer must come to a given end, even if it is a list
LONGEST = 16  # words of a sentence that is to end
SENTENCE = 12  # words of a usual sentence
MARK = 3  # tokens of a mark of the layout

_IN = r"A-Za-z0-9\u{c0}-\u{1fff}\u{3040}-\u{fdff}"  # ranges: Unicode's classes are too much for the lexer
_MARKS = "\"'’(),;:*[]{}<>/|\\=_#@&%+~^`$" + ".!?。！？"  # around a word, and not within
_DASHES = "-–—"
_STOPS = ".!?。！？"
_NONE = r"\u{e000}"  # a character of private use stands for none: a class cannot be empty
_PAUSES = ",;:"
_OPENS = '"(*“'  # an apostrophe before a vowel is part of the word for some
_CLOSERS = "\"')*”"
_ENDERS = "\"'"
# Characters that are words of their own: Thai, Lao, Burmese, Khmer, Chinese, kana.
_WIDE = (
    r"\u{e00}-\u{eff}\u{1000}-\u{109f}\u{1780}-\u{17ff}\u{2e80}-\u{2fff}\u{3005}-\u{3007}\u{3021}-\u{30ff}"
    r"\u{3400}-\u{9fff}\u{f900}-\u{faff}\u{20000}-\u{3ffff}"
)
_WIDE_OPENS, _WIDE_CLOSES = "「『（《“", "，、；：」』）》”"
_DANGLING = ("the", "and", "or", "but", "my", "your", "our", "their", "every")  # never before a full stop
_BREAKS = r"[\n]{1,2}"
_SPACE = f"([ ]|{_BREAKS})"
_LETTERS = {
    "": r"A-Za-z0-9\u{c0}-\u{dff}\u{f00}-\u{fff}\u{10a0}-\u{177f}\u{1800}-\u{1fff}\u{ac00}-\u{d7a3}",
    "lower": r"a-z0-9\u{df}-\u{ff}",
    "upper": r"A-Z0-9\u{c0}-\u{de}",
}


def lark(form: Form, tokens: int) -> str:
    """Return the grammar of a form, for a text of at most `tokens` tokens. Empty for any text."""
    if form == Form():
        return ""
    if form.schema is not None:
        return HEAD + Words(form, tokens).json()
    fixed = form.has or form.opening or form.closing or form.postscript or form.choices or form.pattern
    if fixed or form.layout != PLAIN or form.words != ANY or form.sentences != ANY:
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
    # The body may end wherever a forbidden word would come: what follows does not go on with its last word.
    first = rf"[^{_STOPS}{never}A-Za-z0-9'’\u{{c0}}-\u{{1fff}}]" if form.lacks else f"[^{_STOPS}{never}]"
    rules = {
        "start": f"{quote}body tail? {quote}",
        f"body[max_tokens={int(tokens * CLOSE)}]": "BODY",
        "BODY": rf"/[^\s{never}]{rest}/{_lacks(form.lacks)}",
        "tail": "TAIL",
        "TAIL": f"/({first}[^{_STOPS}{never}]*)?[{_STOPS}]/{_lacks(form.lacks, cut=True)}",
    }
    return _written(rules)


class Words:
    """Writes the grammar of a row of words.

    `w` is any word, `g` none of those that must come, `x` one within a sentence, and `z` ends one.
    """

    def __init__(self, form: Form, tokens: int) -> None:
        self.form = form
        layout = form.layout
        self.pattern = pattern_of(form.pattern) if form.pattern else None
        self.tied = bool(form.closing or form.postscript or (self.pattern and self.pattern.ends))
        free = tokens - MARK * (layout.parts + len(layout.slots))
        self.room = max(int(free * (LISTED if self.tied else WORDS)), 8)  # words
        self.lacks = (*form.lacks, *([form.postscript] if form.postscript else []))
        # A line break may end a sentence or a part.
        self.space = "[ ]" if form.sentences != ANY or layout.parts else _SPACE
        self.banned = {*form.without, *('"' if form.quoted else ""), *(set("*[]<>") & set(layout.text))}
        never = _codes(sorted({*form.without, *('"' if form.quoted else "")} - {*_MARKS}))
        strict = form.words != ANY or form.case or self.lacks  # a sign joins no word to one that may not come
        self.letter = (
            f"[{_LETTERS[form.case]}]" if strict else rf"[^\s{_codes(_MARKS + _DASHES)}{_WIDE}{never}]"
        )
        self.rules: dict[str, str] = {"start": ""}
        self.stop = self._class(_STOPS)
        stop = f"{self.stop}{self._class(_ENDERS)}?"
        listed = "" if self.space == "[ ]" else rf"|{_BREAKS}{self._class('-*')}[ ]"
        gap = f"({self.space}|[ ]?{self._class(_DASHES)}[ ]?{listed})"
        ended = _codes({text.strip()[-1] for text in self.lacks})  # here a word is a row of lexemes
        wide = f"{self._class(_WIDE_OPENS)}?[{_WIDE}]{self._class(_WIDE_CLOSES)}{{0,2}}"
        self.rules |= {
            **{name.lower(): name if form.case else f"{name} | H" for name in "WGXLC"},
            **{name.lower(): name if form.case else f"{name} | H E{name}" for name in "ZS"},
            "W": self._word(gap),
            "G": self._word(gap, within=form.sentences != ANY, other=form.has),
            "X": self._word(gap, within=True),
            "L": self._word(""),
            "C": self._word(gap, within=True, first="a-z" if form.case == "lower" else "A-Z0-9\\p{Lu}"),
            "Z": self._word(stop, within=True),
            "S": self._word(f"{stop}{_SPACE}", within=True),
            "H": f"/{wide}/" + (f" & ~/{ANYTHING}[{ended}]{ANYTHING}/" if ended else ""),
            "EZ": f"/{stop}/",
            "ES": f"/{stop}{_SPACE}/",
            "Y": f"/{_SPACE}/",
            "O": f"/{self._class(',:;')}?{self.space}/",
        }
        if self.pattern:
            self.rules["R"] = f"/{self.pattern.text}/"
            self.rules["r"] = f"R /{self._class(',;:' + _STOPS)}?{self.space}/"

    def text(self) -> str:
        """Return the grammar of a text."""
        form = self.form
        quote = ['"\\""'] if form.quoted else []
        opening = [self._given("OPENING", form.opening)] if form.opening else []
        opening += [self._given("CHOICE", *form.choices)] if form.choices else []
        opening += ["R"] if self.pattern and self.pattern.begins else []
        more = "O" if opening else ""
        low, high = self._left()
        body = self._parts(low, high) if form.layout.parts else self._whole(low, high)
        rest = " ".join([more, *self._title(), *body, *self._tied()])
        alone = replace(form, choices=(), pattern="", lacks=(), without=frozenset()) == Form()
        may_end = opening and alone and not self.tied
        rest = "" if self.pattern and self.pattern.begins and self.pattern.ends else rest
        self.rules["start"] = " ".join([*quote, *opening, f"({rest})?" if may_end else rest, *quote])
        return _written(self.rules)

    def _whole(self, low: int, high: int) -> list[str]:
        """Return the row of a text in one part."""
        slots = self._slots()
        keys = len(self.form.has) + len(slots)
        gap = min(high // (keys + 1), (high - low) // max(keys, 1), LONGEST)
        high = max(high - keys * gap, low, 1)
        body = (
            self._sentences(low, high)
            if self.form.sentences != ANY
            else self._body(low, high, tied=self.tied)
        )
        return [*self._row(slots, gap), *self._keys(gap), *body]

    def _parts(self, low: int, high: int) -> list[str]:
        """Return the row of the parts. Words, and what must come, are shared out among them."""
        layout = self.form.layout
        few, most = -(-low // layout.parts), max(high // layout.parts, 1)
        names = self._names()
        slots = [*(names[text] for text in self.form.has), *self._slots()]
        row: list[str] = []
        for number in range(1, layout.parts + 1):
            own = slots[number - 1 :: layout.parts]
            gap = min(most // (len(own) + 1), LONGEST)
            free = max(most - len(own) * gap, few, 1)
            first = [f"{layout.first[1].capitalize()} "] if layout.first[0] == number else []
            begins = "".join([layout.between if row else "", layout.mark.format(number), *first])
            row += [self._given(f"PART{number}", begins)] if begins else []
            row += [*self._row(own, gap), *self._body(few, free, tied=self.tied and number == layout.parts)]
        return row

    def _title(self) -> list[str]:
        if not self.form.layout.title:
            return []
        self.rules |= {"T": self._word(" ", within=True), "N": self._word("", within=True)}
        return ['"<<"', "T{0,5} N", f"/>>{self.space if self.space == '[ ]' else _BREAKS}/"]

    def _row(self, names: Sequence[str], gap: int) -> list[str]:
        return [part for name in names for part in ([f"g{{0,{gap}}}"] if gap else []) + [name]]

    def _slots(self) -> list[str]:
        """Return the names of what comes between marks, one for each."""
        kinds = {
            slot: self._slot(f"M{number}", slot)
            for number, slot in enumerate(dict.fromkeys(self.form.layout.slots))
        }
        within = self.pattern and not (self.pattern.begins or self.pattern.ends)
        return [*(["r"] if within else []), *(kinds[slot] for slot in self.form.layout.slots)]

    def _slot(self, name: str, slot: str) -> str:
        letters = {"upper": "A-Z", "lower": "a-z"}.get(self.form.case, "A-Za-z")
        short = f"{{2,14}}( {self.letter}{{2,14}}){{0,{SLOT_WORDS - 1}}}"
        before, _, rest = slot.partition("…")
        if slot == "ABC":
            core = "[A-Z]{2,14}"
        elif not before:
            core = f"[{letters}]{{0,9}}{_letter(self._cased(rest[0]))}[{letters}]{{0,9}}"
        else:
            core = f"{_plain(before)}{self.letter}{short}{_plain(rest)}"
        after = self._class(",;:" if self.form.sentences != ANY else ",;:" + _STOPS)
        self.rules[name] = f"/{core}/{_lacks(self.lacks)} /{after}?{self.space}/"
        return name

    def json(self) -> str:
        """Return the grammar of a small JSON object."""
        keys = " ".join(f'"," gap k{number}' for number in range(len(self.form.has)))
        most = max(self.room // (9 + 3 * len(self.form.has)), 3)
        letter = rf"[^\s\u{{22}}\u{{5c}}\x00-\x1f{_never(self.form)}]"
        self.rules |= {
            "start": f'"{{" gap pair {keys} ("," gap pair){{0,2}} /\\n?/ "}}"',
            "gap": r"/[ \n]{0,4}/",
            "pair": 'string ":" gap value',
            "value": 'string | NUMBER | "[" string ("," gap string){0,3} "]"',
            "string": f'"\\"" t{{0,{most}}} T "\\""',
            "NUMBER": r"/-?[0-9]{1,6}(\.[0-9]{1,3})?/",
            "t": 'T " "',
            "T": f"/{letter}{{1,16}}/{_lacks(self.lacks)}",
        }
        for number, text in enumerate(self.form.has):
            name = self._given(f"K{number}", _escaped(text))
            self.rules[f"k{number}"] = f'string ":" gap "\\"" t{{0,4}} {name} (" " t{{0,3}} T)? "\\""'
        return _written(self.rules)

    def _left(self) -> tuple[int, int]:
        """Return the fewest and the most words that are free, beside those that are given."""
        form = self.form
        given = form.given_words
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
        names = self._names()
        words = f"g{{0,{gap}}}" if gap else ""
        if len(names) < len(texts):
            return self._row([names[text] for text in texts], gap)
        ways = [
            f"{words} {name} keys::set_bit({bit}) %if bit_clear({bit})"
            for bit, name in enumerate(names.values())
        ]
        self.rules["keys::_"] = " | ".join([f'"" %if is_ones([0:{len(names)}])', *ways])
        return ["keys::0x0"]

    def _names(self) -> dict[str, str]:
        """Return the names of the texts that must come."""
        return {
            text: self._key(f"K{number}", text) for number, text in enumerate(dict.fromkeys(self.form.has))
        }

    def _key(self, name: str, text: str) -> str:
        text, never = self._cased(text), _codes(sorted(self.banned))
        mark = rf"[^\s{_IN}{'' if self.form.sentences == ANY else _STOPS}{never}]"
        first = _plain(text[0]) if self.form.case else _letter(text[0])  # it may begin a sentence
        words = first + self.space.join("".join(map(_plain, word)) for word in re.split(r"\s+", text[1:]))
        space = self.space if _is_edge(text[-1]) or not text[-1].isalnum() else f"({self.space})?"
        self.rules[name] = f"/{self._class(_OPENS)}{{0,2}}{words}{mark}{{0,3}}{space}/"
        return name

    def _given(self, name: str, *texts: str) -> str:
        self.rules[name] = f"/{'|'.join(''.join(map(_plain, self._cased(text))) for text in texts)}/"
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
        counted, letter = self.form.words != ANY, self.letter
        ends = end.startswith(self.stop)
        least = 3 if ends and self.form.sentences != ANY else 1 + ends  # `J.` is an initial, `1.` a number
        core = f"[{first}]{letter}{{0,19}}" if first else f"{letter}{{{least},20}}"
        before = self._class(_OPENS) if counted else self._class(_MARKS, *(_STOPS if within else ""))
        number = (
            "" if counted or first else f"[0-9]{{1,6}}({self._class('.:,')}[0-9]{{1,3}}){{1,2}}|"
        )  # 11:30
        close = self._class(_CLOSERS)
        after = f"{close}{{0,2}}" if ends else f"{close}{{0,2}}{self._class(_PAUSES)}?"
        if not within:
            after = f"({after}|({self._class(_STOPS)}|{self._class('.')}{{3}}){close}{{0,2}})"
        lacks = _other((*self.lacks, *other, *(_DANGLING if ends else ())))
        suffix = f"{letter}{{1,3}}" if not self.lacks else "[sStTdDmM]|ll|LL|re|RE|ve|VE"
        return f"/{before}{{0,2}}/ (/{number}{core}(['’]({suffix}))?/{lacks}) /{after}{end}/"

    def _class(self, marks: str, *without: str) -> str:
        """Return a class of marks, without those that the answer does not have."""
        banned = {*self.banned, *without}
        return f"[{_codes(mark for mark in marks if mark not in banned) or _NONE}]"

    def _body(self, low: int, high: int, *, tied: bool) -> list[str]:
        """Return the row of the free words. They end with a sentence if they are many, or more follows."""
        slack = min(LONGEST, high // 3, high - low)
        many = max(high - slack - 1, low - 1, 0)
        first = f"w{{{max(low - 1, 0)},{many}}}" if many else ""
        within = f"x{{0,{slack}}}" if slack else ""
        if not tied:
            return [first, f"(l | {within} z)"]
        whole = self.form.postscript or not self.form.closing[:1].islower()
        row = f"{first} {within} {'s' if whole else ''}"
        return [row if low or self.form.has else f"({row})?"]

    def _sentences(self, low: int, high: int) -> list[str]:
        """Return the row of the sentences. The bounds on words are shared out among them."""
        form = self.form
        few, many = max(form.sentences[0] - form.given_sentences, 1), form.sentences[1]
        most = max(many - form.given_sentences, 1) if many is not None else max(high // SENTENCE, few)
        least = max(-(-low // few) - 1, 1)
        most = max(min(most, high // max(least + 1, SENTENCE if form.words == ANY else 1)), few)
        length = max(min(high // (few if form.words == ANY else most), 2 * LONGEST) - 1, least)
        self.rules["sentence"] = f"c x{{{least - 1},{length - 1}}} z" if length > 1 else "c z"
        more = [f"(Y sentence){{{few - 1},{most - 1}}}"] if most > 1 else []
        tied = ["Y"] if form.closing or form.postscript else []
        return [f"x{{{least},{length}}} z", *more, *tied]

    def _tied(self) -> list[str]:
        """Return the row of the end that was asked for."""
        row = []
        if self.form.postscript:
            row += [self._given("PS", self.form.postscript), "Y", "x{1,12} z"]
        if self.form.closing:
            row += [*(["Y"] if row else []), self._given("CLOSING", self.form.closing)]
        if self.pattern and self.pattern.ends and not self.pattern.begins:
            row += ["R"]
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

    It leaves to the check what only the check can tell, and forbids nothing that the check allows. But where
    "can" may not come, nor may "can't".

    Args:
        texts: The texts.
        cut: What comes before may have been cut within one of them, so it does not begin with an end of one.
    """
    found: dict[tuple[str, str], list[str]] = {}
    for text in map(str.strip, texts):
        units, (before, after) = _units(text), around(text)
        found.setdefault((before, after), []).append("".join(units))
        if cut and len(units) > 1:
            ends = reduce(lambda end, unit: f"({end})?{unit}", units[2:], units[1])
            found.setdefault(("", after), []).append(ends)
    ways = [f"{before}({'|'.join(each)}){after}" for (before, after), each in found.items()]
    return f" & ~/{'|'.join(ways)}/" if ways else ""


def _other(texts: Iterable[str]) -> str:
    """Return the part of a terminal for a word that is none of some texts: of a phrase, its longest word.

    It is simpler than `_lacks`: with that in each of several lexemes, the lexer gives up.
    """
    marks = {*_MARKS} - {*"'’"}
    longest = (max(re.split(rf"[{_DASHES}\s]+", text), key=len).strip(_STOPS + _PAUSES) for text in texts)
    found = "|".join("".join(_units(word)) for word in longest if word and not {*word} & marks)
    return f" & ~/({ANYTHING}[{SYLLABLES}])?({found})(['’{SYLLABLES}]{ANYTHING})?/" if found else ""


def _units(text: str) -> list[str]:
    """Return the characters of a text as regular expressions."""
    return [r"[*_]*\s+[*_]*" if part.isspace() else _letter(part) for part in re.findall(r"\s+|\S", text)]


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


def _escaped(text: str) -> str:
    """Return a text as a string of JSON has it."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _plain(char: str) -> str:
    return char if char.isalnum() else _codes(char)


def _codes(chars: Iterable[str]) -> str:
    """Return characters as a regular expression and a class of it have them."""
    return "".join(char if char in "\"',;:!<>=_#@&%~`" else f"\\u{{{ord(char):x}}}" for char in chars)
