"""Words and letters: counted, spelled backwards, sorted, and put into a sentence of a given length."""

from __future__ import annotations

from random import Random

from redraft.selfrevision.tasks import lexicon
from redraft.selfrevision.tasks.task import Judged, Task, Values, equal_to, plain, quoted

_ALL = lexicon.NOUNS + lexicon.ADJECTIVES


def numbered(words: list[str]) -> str:
    """Return `1 river 2 stone`."""
    return " ".join(f"{number} {word}" for number, word in enumerate(words, start=1))


def _how_many(values: Values) -> str:
    return str(len(values["words"].split()))


COUNT = Task(
    name="count",
    wordings=(
        "How many words are in this line?\n{words}",
        "Count the words.\n{words}",
        "How many words are there: {words}",
        "What is the number of words in this line?\n{words}",
        "Count the words in the following line.\n{words}",
        "Tell me how many words this has: {words}",
        "Word count of this text?\n{words}",
        "How many words does this text have?\n{words}",
        "Give the number of words.\n{words}",
        "Please count these words: {words}",
        "{words}\nHow many words is that?",
        "How long is this line, in words?\n{words}",
        "Say how many words you see: {words}",
        "Find the word count: {words}",
        "{words}\nCount the words above.",
        "How many words did I write here?\n{words}",
        "Number of words in: {words}",
        "I typed this. How many words are they?\n{words}",
        "{words}\nWhat is the word count of this?",
        "Could you count the words of this line?\n{words}",
    ),
    draw=lambda rng: {"words": " ".join(rng.sample(_ALL, rng.randint(6, 18)))},
    right=_how_many,
    spoil=lambda values, rng: str(int(_how_many(values)) + rng.choice((-2, -1, -1, 1, 1, 2))),
    judge=equal_to(_how_many, lambda values: numbered(values["words"].split())),
)


def _letter(rng: Random) -> Values:
    word = rng.choice(_LONG)
    letter = rng.choice(word) if rng.random() < 0.9 else rng.choice("aeiorst")
    return {"letter": letter, "word": word}


_LONG = tuple(
    a + b
    for a in lexicon.ADJECTIVES + lexicon.NOUNS
    for b in lexicon.NOUNS
    if a != b and 7 <= len(a + b) <= 13
)
"""Two words written as one: no model knows their letters by heart."""


def _times(values: Values) -> str:
    return str(values["word"].count(values["letter"]))


def _spelled(values: Values) -> str:
    found, letters = 0, []
    for letter in values["word"]:
        found += letter == values["letter"]
        letters.append(f"{letter} ({found})" if letter == values["letter"] else letter)
    return " ".join(letters) + f" has {found} {values['letter']}"


LETTERS = Task(
    name="letters",
    wordings=(
        'How many times does the letter {letter} occur in "{word}"?',
        "How many {letter}s are in {word}?",
        'Count the letter {letter} in "{word}".',
        "How often does {letter} appear in {word}?",
        'How many "{letter}" are in "{word}"?',
        "What is the number of {letter}s in the word {word}?",
        "In {word}, how many times is {letter} used?",
        "Count the {letter}s in {word}.",
        'How many letters {letter} does "{word}" have?',
        "Number of {letter} in {word}?",
        "Find how often the letter {letter} is in {word}.",
        "Tell me how many {letter}s the word {word} has.",
        'How many {letter}\'s are there in "{word}"?',
        "The word is {word}. How many {letter} does it have?",
        "Please count how often {letter} is in {word}.",
        "In the word {word}, count every {letter}.",
        "How many times do you see {letter} in {word}?",
        'Say how many {letter}s you find in "{word}".',
        "If I spell {word}, how often do I write {letter}?",
        "{word}: how many {letter}s?",
    ),
    draw=_letter,
    right=_times,
    spoil=lambda values, rng: str(max(0, int(_times(values)) + rng.choice((-1, 1, 1, 2)))),
    judge=equal_to(_times, _spelled),
)


_SPELLED = tuple(word for word in _ALL if len(word) >= 4) + tuple(word for word in _LONG if len(word) <= 8)


def _backwards(values: Values) -> str:
    return str(values["word"][::-1])


def _misspelled(values: Values, rng: Random) -> str:
    letters = list(_backwards(values))
    place = rng.randrange(len(letters) - 1)
    kind = rng.choice(("exchange", "exchange", "drop", "twice", "forwards"))
    if kind == "exchange":
        letters[place], letters[place + 1] = letters[place + 1], letters[place]
    elif kind == "drop":
        del letters[place]
    elif kind == "twice":
        letters.insert(place, letters[place])
    else:
        return str(values["word"])
    return "".join(letters)


def _from_the_end(values: Values) -> str:
    letters = list(values["word"])
    back = [f"{number} {letters[number - 1]}" for number in range(len(letters), 0, -1)]
    return f"{numbered(letters)}; {' '.join(back)}"


BACKWARDS = Task(
    name="backwards",
    wordings=(
        "Spell {word} backwards.",
        'Write "{word}" backwards.',
        "What is {word} spelled backwards?",
        "Reverse the letters of {word}.",
        'Reverse "{word}".',
        "Give the letters of {word} from last to first.",
        "What does {word} read from right to left?",
        "Turn the word {word} around, letter by letter.",
        "Write the word {word} in reverse.",
        'How do you spell "{word}" backwards?',
        "Put the letters of {word} in reverse order.",
        "Read {word} backwards.",
        "The word {word} in reverse, please.",
        "Backwards: {word}",
        'Flip the word "{word}".',
        "Say {word} from its last letter to its first.",
        "What do you get if you reverse {word}?",
        "Mirror the letters of the word {word}.",
        "Can you write {word} from back to front?",
        "{word}, but backwards?",
    ),
    draw=lambda rng: {"word": rng.choice(_SPELLED)},
    right=_backwards,
    spoil=_misspelled,
    judge=equal_to(_backwards, _from_the_end),
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


def _selected(values: Values) -> str:
    """Return the places of the first letters, and the smallest of what is left again and again."""
    left = [(ord(word[0]) - ord("a") + 1, word) for word in values["words"].split()]
    steps = [" ".join(f"{word} {place}" for place, word in left)]
    while len(left) > 1:
        first = min(left)
        left.remove(first)
        steps.append(f"{first[0]} {first[1]}, left {' '.join(f'{word} {place}' for place, word in left)}")
    return "; ".join(steps)


SORT = Task(
    name="sort",
    wordings=(
        "Put these words in alphabetical order: {words}",
        "Sort these words from A to Z: {words}",
        "Sort alphabetically: {words}",
        "Order these words by the alphabet.\n{words}",
        "Alphabetical order, please: {words}",
        "Arrange these words alphabetically.\n{words}",
        "{words}\nSort these words from A to Z.",
        "Which order do these words have in a dictionary? {words}",
        "List in alphabetical order: {words}",
        "Please sort the words: {words}",
        "Bring these words into alphabetical order.\n{words}",
        "Sort the following words.\n{words}",
        "Write these words in the order of the alphabet: {words}",
        "A to Z: {words}",
        "{words}\nPut the words above in alphabetical order.",
        "Rearrange from A to Z: {words}",
        "How are these words sorted by the alphabet? {words}",
        "Give me these words sorted: {words}",
        "Could you alphabetise these? {words}",
        "Order as in a dictionary: {words}",
    ),
    draw=_unsorted,
    right=_in_order,
    spoil=_misplaced,
    judge=equal_to(_in_order, _selected),
)


def _sentence(values: Values) -> str:
    rng = Random(f"{values['length']} {values['keyword']}")
    return lexicon.sentence(rng, values["length"], values["keyword"])


def _other_sentence(values: Values, rng: Random) -> str:
    length, keyword = values["length"], values["keyword"]
    if rng.random() < 0.3:
        return lexicon.sentence(rng, length, rng.choice(lexicon.NOUNS))
    near = [n for n in (length - 1, length + 1) if lexicon.SHORTEST <= n <= lexicon.LONGEST]
    return lexicon.sentence(rng, rng.choice(near), keyword)


def _judged_sentence(values: Values, answer: str) -> Judged:
    words = [word.strip(".,;:!?\"'").lower() for word in plain(answer).split()]
    found, length, keyword = values["keyword"] in words, values["length"], values["keyword"]
    passed = len(words) == length and found
    shown = [f"{word} (found)" if word == keyword else word for word in quoted(answer).split()]
    has = f"{len(words)} words with {'' if found else 'no '}{keyword}"
    text = f"{numbered(shown)}, so {has}, and asked for are {length} words with {keyword}: "
    if passed:
        return Judged(f"{text}the same.", passed)
    return Judged(f"{text}different. For instance: {numbered(_sentence(values).split())}", passed)


SENTENCE = Task(
    name="sentence",
    wordings=(
        "Write a sentence of exactly {length} words with the word {keyword}.",
        "Use the word {keyword} in a sentence of exactly {length} words.",
        'Write exactly {length} words with the word "{keyword}" in them.',
        "Make a sentence of {length} words that has {keyword} in it.",
        "I need a sentence with {keyword}, exactly {length} words long.",
        "Give me {length} words, a sentence, with {keyword}.",
        "Form a sentence with {keyword}. It must have {length} words.",
        "One sentence, {length} words, containing {keyword}.",
        "Write a {length}-word sentence with {keyword}.",
        "Compose a sentence of {length} words using {keyword}.",
        "In exactly {length} words, write a sentence with {keyword}.",
        "A sentence with the word {keyword} and {length} words in all, please.",
        "Create a sentence that has {length} words, one of them {keyword}.",
        "Please write a sentence with {keyword} in exactly {length} words.",
        'Build a {length}-word sentence around "{keyword}".',
        "Say something in {length} words that mentions {keyword}.",
        "Your sentence must have {length} words and include {keyword}.",
        "Put {keyword} into a sentence of {length} words.",
        "Can you write exactly {length} words with {keyword} among them?",
        "Sentence, please: {length} words, with {keyword}.",
    ),
    draw=lambda rng: {
        "length": rng.randint(lexicon.SHORTEST, lexicon.LONGEST),
        "keyword": rng.choice(lexicon.NOUNS),
    },
    right=_sentence,
    spoil=_other_sentence,
    judge=_judged_sentence,
)
