"""Words and letters: counted, sorted, and listed once."""

from __future__ import annotations

from random import Random
from string import ascii_lowercase

from redraft.train.self.tasks.task import SAID, Task, Values, equal_to

NOUNS, ADJECTIVES = (tuple(SAID[kind].split()) for kind in ("nouns", "adjectives"))
_ALL = NOUNS + ADJECTIVES


def numbered(words: list[str]) -> str:
    """Return `1 river 2 stone`."""
    return " ".join(f"{number} {word}" for number, word in enumerate(words, start=1))


def _how_many(values: Values) -> str:
    return str(len(values["words"].split()))


COUNT = Task(
    name="count",
    wordings=SAID["count"],
    draw=lambda rng: {"words": " ".join(rng.sample(_ALL, rng.randint(6, 18)))},
    right=_how_many,
    spoil=lambda values, rng: str(int(_how_many(values)) + rng.choice((-2, -1, -1, 1, 1, 2))),
    judge=equal_to(_how_many, lambda values: numbered(values["words"].split())),
)


_SPELLED = tuple(word for word in _ALL if len(word) >= 4)


def _letter(rng: Random) -> Values:
    words = " ".join(rng.sample(_SPELLED, 2))
    letter = rng.choice(words.replace(" ", "")) if rng.random() < 0.9 else rng.choice("aeiorst")
    return {"letter": letter, "words": words}


def _times(values: Values) -> str:
    return str(values["words"].count(values["letter"]))


def _spelled(values: Values) -> str:
    """Return the letters, each found one with its number: a small model cannot count at the end."""
    found, spelled = 0, []
    for word in values["words"].split():
        letters = []
        for letter in word:
            found += letter == values["letter"]
            letters.append(f"{letter} ({found})" if letter == values["letter"] else letter)
        spelled.append(" ".join(letters))
    return f"{', '.join(spelled)} has {found} {values['letter']}"


LETTERS = Task(
    name="letters",
    wordings=SAID["letters"],
    draw=_letter,
    right=_times,
    spoil=lambda values, rng: str(max(0, int(_times(values)) + rng.choice((-1, 1, 1, 2)))),
    judge=equal_to(_times, _spelled),
)


def _unsorted(rng: Random) -> Values:
    by_letter: dict[str, list[str]] = {}
    for word in _ALL:
        by_letter.setdefault(word[0], []).append(word)
    letters = rng.sample(sorted(by_letter), rng.randint(4, 6))
    return {"words": " ".join(rng.choice(by_letter[letter]) for letter in letters)}


def _in_order(values: Values) -> str:
    return " ".join(sorted(values["words"].split()))


def _misplaced(values: Values, rng: Random) -> str:
    words = sorted(values["words"].split())
    place = rng.randrange(len(words) - 1)
    kind = rng.choice(("exchange", "exchange", "drop", "twice", "move"))
    if kind == "exchange":
        words[place], words[place + 1] = words[place + 1], words[place]
    elif kind == "drop":
        del words[place]
    elif kind == "twice":
        words[place + 1] = words[place]
    else:
        words.insert(rng.randrange(len(words)), words.pop(place))
    return " ".join(words)


def _walked(values: Values) -> str:
    """Return the first letters, and the alphabet with the words that begin with each letter."""
    words = {word[0]: word for word in values["words"].split()}
    alphabet = ascii_lowercase[: ascii_lowercase.index(max(words)) + 1]
    listed = ", ".join(f"{word} {letter}" for letter, word in words.items())
    walked = (f"{letter} {words[letter]}" if letter in words else letter for letter in alphabet)
    return f"{listed}; {', '.join(walked)}"


SORT = Task(
    name="sort",
    wordings=SAID["sort"],
    draw=_unsorted,
    right=_in_order,
    spoil=_misplaced,
    judge=equal_to(_in_order, _walked),
)


def _with_repeats(rng: Random) -> Values:
    words = rng.sample(_ALL, rng.randint(4, 6))
    repeats = [rng.choice(words) for _ in range(rng.randint(2, 4))]
    mixed = rng.sample(words + repeats, len(words) + len(repeats))
    return {"words": " ".join(mixed)}


def _once(values: Values) -> str:
    return " ".join(dict.fromkeys(values["words"].split()))


def _repeated(values: Values, rng: Random) -> str:
    words = _once(values).split()
    place = rng.randrange(len(words) - 1)
    kind = rng.choice(("again", "again", "drop", "exchange", "all"))
    if kind == "again":
        words.insert(rng.randint(place + 2, len(words)), words[place])
    elif kind == "drop":
        del words[place]
    elif kind == "exchange":
        words[place], words[place + 1] = words[place + 1], words[place]
    else:
        return str(values["words"])
    return " ".join(words)


def _marked(values: Values) -> str:
    """Return each word, and whether it is new."""
    seen, marked = set(), []
    for word in values["words"].split():
        marked.append(f"{word} {'again' if word in seen else 'new'}")
        seen.add(word)
    return ", ".join(marked)


UNIQUE = Task(
    name="unique",
    wordings=SAID["unique"],
    draw=_with_repeats,
    right=_once,
    spoil=_repeated,
    judge=equal_to(_once, _marked),
)
