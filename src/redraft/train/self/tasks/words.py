"""Words and letters: counted, sorted, and listed once."""

from __future__ import annotations

from random import Random
from string import ascii_lowercase

from redraft.train.self.tasks.task import Task, Values, equal_to


def _listed(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NOUNS = _listed("""
    apple arrow baby basket bear bell bird boat book bottle box bread bridge brother bus cake camera candle
    car cat chair cheese child church circle city clock cloud coat coin corner cow crowd cup daughter desk
    doctor dog door dress driver duck eagle ear egg engine evening eye face family farmer fence field finger
    fire fish flag flower forest fox friend frog fruit garden gate girl glass glove gold grass guest guitar
    hand hat hill honey horse house ice insect island jacket jar jewel judge juice jungle key king kitchen
    kite ladder lake lamp leaf letter lion lock market meal milk mirror money moon morning mountain mouse
    music nail neck nest newspaper night noise nurse nut ocean oil onion orange oven owl page paint paper park
    pen picture pillow plant plate pocket queen question quilt rabbit radio rain ribbon ring river road rock
    roof room rope rose school shadow sheep ship shirt shoe silver sister snake snow soldier song spoon star
    stone storm street sugar sun table teacher tent tiger tooth tower town train tree truck uncle umbrella
    valley van vase village violin voice wagon wall watch water wheel whistle window winter wolf yard zebra
    zoo
""")
ADJECTIVES = _listed("""
    big black blue bright brown calm clean cold dark deep dry dusty early empty fast gentle golden gray
    green happy heavy hidden hungry kind large late little lonely long loud lucky narrow new noisy old pale
    plain proud quick quiet red rich round sharp short shy silent simple sleepy slow small soft steep strange
    strong sweet tall tiny tired warm wet white wide wild wise young
""")
_ALL = NOUNS + ADJECTIVES


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
    wordings=(
        'How many times does the letter {letter} occur in "{words}"?',
        "How many {letter}s are in {words}?",
        'Count the letter {letter} in "{words}".',
        "How often does {letter} appear in {words}?",
        'How many "{letter}" are in "{words}"?',
        "What is the number of {letter}s in the words {words}?",
        "In {words}, how many times is {letter} used?",
        "Count the {letter}s in {words}.",
        'How many letters {letter} does "{words}" have?',
        "Number of {letter} in {words}?",
        "Find how often the letter {letter} is in {words}.",
        "Tell me how many {letter}s the words {words} have.",
        'How many {letter}\'s are there in "{words}"?',
        "The words are {words}. How many {letter} do they have?",
        "Please count how often {letter} is in {words}.",
        "In the words {words}, count every {letter}.",
        "How many times do you see {letter} in {words}?",
        'Say how many {letter}s you find in "{words}".',
        "If I spell {words}, how often do I write {letter}?",
        "{words}: how many {letter}s?",
    ),
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
    wordings=(
        "Remove the repeated words: {words}",
        "Write each of these words once: {words}",
        "Delete the duplicates.\n{words}",
        "Drop words that occur again: {words}",
        "List these words without repetitions.\n{words}",
        "Which words are here, each once? {words}",
        "Keep the first of each word: {words}",
        "Please remove duplicates from this list: {words}",
        "Make this list unique.\n{words}",
        "{words}\nRemove what is repeated.",
        "Take out the words that come again: {words}",
        "Say each word only the first time: {words}",
        "{words}\nGive each word one time.",
        "Shorten this list to its different words: {words}",
        "Leave one of each word.\n{words}",
        "What is left of this without repetitions? {words}",
        "{words}\nWhich different words are these?",
        "Throw out what I wrote twice: {words}",
        "Filter the duplicates out of this line.\n{words}",
        "Print every word once: {words}",
        "Deduplicate: {words}",
        "Give me this list without repeated words.\n{words}",
        "Clean this list of words that come twice: {words}",
        "Strike out repetitions: {words}",
        "{words}\nWrite this without duplicates.",
        "No word twice, please: {words}",
        "Some words are repeated here. Leave those out.\n{words}",
        "Can you drop the duplicates? {words}",
        "Each word should be there once: {words}",
        "{words}\nTell me the distinct words.",
    ),
    draw=_with_repeats,
    right=_once,
    spoil=_repeated,
    judge=equal_to(_once, _marked),
)
