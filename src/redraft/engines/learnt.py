"""Recognise exercises: prompts for sums, dates and the like, which the default model was trained to answer.

An exercise contains values that the model's adapters can handle and words that ask for a task. An exercise
asks for nothing else (`_ASKS_MORE`). A prompt with a decimal, a story, code or another language goes to the
base model. The adapters get the exercise in the wording used in training.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import date, timedelta
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, NamedTuple


class Exercise(NamedTuple):
    """A prompt that the default model was trained to answer. `texts` are the wordings in training."""

    task: str
    values: Mapping[str, Any]
    texts: tuple[str, ...]


ASKED = {
    "add": ("What is {a} + {b}?", "What is {b} + {a}?", "Calculate {a} + {b}."),
    "subtract": ("What is {a} - {b}?", "Subtract {b} from {a}.", "Calculate {a} - {b}."),
    "multiply": ("What is {a} × {b}?", "Multiply {a} by {b}.", "Calculate {a} × {b}."),
    "total": ("What is {sum}?", "Add up {sum}.", "Calculate {sum}."),
    "later": (
        "What time is it {minutes} minutes after {time}?",
        "Add {minutes} minutes to {time}.",
        "{time} plus {minutes} minutes is what time?",
    ),
    "dates": (
        "What date is {days} days after {day} {month}?",
        "Add {days} days to {day} {month}.",
        "{day} {month} plus {days} days is which date?",
    ),
}
"""The wordings of each task in training (`train.self.tasks`). Earlier wordings are tried first."""

LONGEST = 200
"""Maximum length of an exercise, in characters."""

_SIGNS = str.maketrans("’‘−–—＋✕·", "''---+××")
_TOKEN = re.compile(r"\d[\d.,:/]*\d|\d|[^\W\d_]+(?:['-][^\W\d_]+)*|\S")
_OTHER = re.compile(  # questions of method or fact, days of the week, references to earlier text
    r"\bhow (?:to|do|can|could|would|should|did)\b(?! \d)|^(?:is|are|was|does|did)\b|\bof the week\b"
    r"|\bto (?:it|that|this)\b",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"0|[1-9]\d{0,4}|[1-9]\d?,\d{3}")


def read(prompt: str) -> Exercise | None:
    """Read a prompt as an exercise. Return None if the base model should answer the prompt."""
    text = " ".join(prompt.translate(_SIGNS).split())
    numbers = len(re.findall(r"\d+", text))
    if len(prompt) > LONGEST or not 1 <= numbers <= 6 or _OTHER.search(text) or _ASKS_MORE.search(text):
        return None
    found = _days_after(text) if _DATE.search(text) else _two_numbers(text) or _later(text) or _total(text)
    return found and Exercise(*found, tuple(each.format(**found[1]) for each in ASKED[found[0]]))


def holds(work: str, asked: str) -> bool:
    """Return whether the criticism `work` starts with the right solution of the exercise `asked`."""
    if (found := read(asked)) is None:
        return False
    task, values, _ = found
    return work.startswith(f"{WORK[task](values)}, so {RIGHT[task](values)}, and")


def _read_words(text: str) -> tuple[str, list[int]]:
    found = _TOKEN.findall(text.lower())
    units = _UNITS.intersection(found)
    numbers = [int(word.replace(",", "")) for word in found if _NUMBER.fullmatch(word)]
    said = ["#" if _NUMBER.fullmatch(word) else _mended(word) for word in found if {word} != units]
    return " ".join(said), numbers


@lru_cache(4096)
def _mended(word: str) -> str:
    if len(word) < 4 or word in _KNOWN:
        return word
    return next(iter(get_close_matches(word, _KNOWN, 1, 0.85)), word)  # such as "mius" and "substract"


_UNITS = {
    *("€", "$", "£", "euros", "euro", "dollars", "dollar", "pounds", "cents", "points"),
    *("kg", "g", "km", "m", "cm", "miles", "litres"),
}
_ASKS_MORE = re.compile(
    r"\b(?:why|explain|explanations|prove|true|correct|compare|closer|larger or|smaller or|average|mean of"
    r"|median|percent|half|halves|twice|double|dozen|hundred|thousand|million|third|quarter|prime|leap"
    r"|squared|cubed|power|root|remainder|modulo|divided?|ratio|fraction|decimal|negative|digits|binary|hex"
    r"|roman|borrowing|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|zero|score|random"
    r"|python|javascript|java|excel|code|print|function|program|variable|error|select|isbn|phone|dimensions"
    r"|write|poem|story|joke|song|rap|essay|sentence|list|table|translate|french|german|spanish|in words"
    r"|spell|array|round|estimate|steps?|bigger number|who|whose|where did|not|don't|happened|season|decade"
    r"|numerology|to my|wie|viel|ist|sind|cuánto|cuanto|combien|font|quanto|fa|hoeveel|em|et|und|mal|por"
    r"|is it possible|should i"
    r"|which is)\b|^minus\b|[%^<>{}[\]\\|¿]|(?:^|[\s(=])-\d|[^\W\d_a-z]|\d+ ?[/÷] ?\d",
    re.IGNORECASE,
)
"""Words and signs which show that a prompt is not in English, or asks for more than an exercise."""


# Two numbers

_PAIR = r"(?: (?:these|those|the|me))?(?: two)?(?: numbers?)?(?: :)? # (?:(?:,|&|and|with|n|\+|plus) )?#"
_UP = r"(?:added|summed|combined|together|in total|make|add up|what's the (?:sum|total))"
_ADD = re.compile(
    rf"(?:add|adding|sum|combine|combining|addition|plus)(?: up)?(?: together)?(?: of)?(?: :)?{_PAIR}"
    rf"|total(?: of)?{_PAIR}|how many (?:is|are){_PAIR}"
    r"|(?:add|adding) # to #|# (?:\+|plus|add|added to|is added to|more than|and another) #"
    rf"|# , (?:add|plus)(?: another)? #|# and # (?:, )?{_UP}|# with # on top|put # onto #"
    r"|do # and # make|put # and # together|(?:increase|raise) # by #|# increased by #|start(?:ing)? (?:at"
    r"|from|with) #(?: ,)?(?: and)? (?:count|go) up(?: by)? #"
)
_TAKE = "subtract|subtracting|take|taking|deduct|deducting|remove|removing|taken|subtracted|deducted|removed"
_MORE = "more|larger|bigger|greater|higher"
_LESS = re.compile(
    rf"# (?:-|minus|less|take away|take|subtract|without|decreased by|reduced by|down by) #"
    rf"|# with # (?:{_TAKE})"
    rf"|(?:reduce|decrease|lower) # by #|what remains of # after #|(?:subtraction|subtract) : # (?:-|,|and) #"
    rf"|start(?:ing)? (?:with|from|at) #(?: ,)?(?: and)? (?:{_TAKE}|count back|go down)(?: away| by)? #"
    rf"|from #(?: ,)? (?:{_TAKE})(?: away)? #"
    rf"|(?P<turned>(?:{_TAKE}|minus|knock|going down) #(?: away| off)? (?:from|off) #"
    rf"|# (?:is )?(?:{_TAKE})(?: away)? from #|# (?:less than|below|under) #|(?:far is it"
    rf"|get) from # (?:up )?to #"
    r"|add to # to (?:get|reach) #|missing between # and #)|(?P<apart>(?:difference|gap)(?: between"
    r"| of)?(?: the)?(?: two)?(?: numbers?)? # (?:and|,|&) #"
    rf"|between # and # (?:, )?how (?:{_MORE}|much)|how much (?:{_MORE}) is # (?:than|compared to) #"
    rf"|by how much (?:is # (?:{_MORE}) than|does # exceed) #|how much (?:{_MORE}) than # is #)"
)
_TIMES = re.compile(
    r"# (?:x|×|\*|times|multiply|multiplied|multiplied (?:by|with)) #(?: times)?|times # by #"
    r"|multiply(?:ing)?(?: :)? # (?:by|and|with|times|,) #|multiplication(?: :)? # (?:and|by|times) #"
    r"|product(?: of)?(?: :)? # (?:x|×|\*|times|and|by|with) #|# (?:lots|groups|sets|rows|times) of #"
    r"|# (?:added up # times)|take # , multiply it by #|# times as (?:big|much|many|large) as #"
)
_Found = tuple[str, dict[str, Any]] | None


def _two_numbers(text: str) -> _Found:
    said, numbers = _read_words(text)
    if len(numbers) != 2:
        return None
    a, b = numbers
    if _YEARS.search(said):
        return _of_years(said, a, b)
    if _asked(_ADD, said):
        return "add", {"a": a, "b": b}
    if _asked(_TIMES, said):
        inside = 2 <= min(a, b) <= 9 and max(a, b) <= 9999
        return ("multiply", {"a": max(a, b), "b": min(a, b)}) if inside else None
    if (found := _asked(_LESS, said)) is None:
        return None
    if found["turned"] or (found["apart"] and a < b):
        a, b = b, a
    return ("subtract", {"a": a, "b": b}) if a >= b else None


def _asked(asks: re.Pattern[str], said: str) -> re.Match[str] | None:
    return re.search(rf"(?<!\S)(?:{asks.pattern})(?!\S)", said)


# Years: the number between two years, or the year before or after a year

_YEARS = re.compile(
    r"\b(?:years?|yrs?|old|age|born|birthday|birth|anniversary|turn(?:s|ed|d|ing)?|founded|vintage)\b"
)
_BETWEEN = re.compile(
    r"how many years|how old|how long|years (?:between|apart|from|since|passed|separate)|\bage\b|birthday"
    r"|anniversary|in years|years ago|gap|difference|minus"
)
_OF_ONE = re.compile(r"\b(?:days|months|weeks|decades|centuries|century|minutes|hours|older|younger)\b")
_BORN = re.compile(
    r"\b(?:born|birth year|year of birth|from|opened|built|founded|planted|started|crowned|buried"
    r"|married)(?: :)?(?: in)?(?: the year)? @"
)
_BACK = re.compile(
    r"\b(?:before|befor|ago|earlier|prior|back|born|birth|founded|built|painted|minus|subtract|off|vintage"
    r"|rewind|die|since when|s?he from)\b|@ -"
)
_FORTH = re.compile(
    r"\b(?:after|later|forward|ahead|on from|on|in|turns?|turning|becomes?|be|pass(?:ed)?|plus|add|hit"
    r"|live)\b|\+"
)


def _of_years(said: str, a: int, b: int) -> _Found:
    years = [number for number in (a, b) if 1000 <= number <= 2999]
    if not years or _OF_ONE.search(said):
        return None
    if len(years) == 2:
        return ("subtract", {"a": max(a, b), "b": min(a, b)}) if _BETWEEN.search(said) else None
    [year], count = years, min(a, b)
    place = said.replace("#", "@", 1) if a == year else "@".join(said.rsplit("#", 1))
    if not _BORN.search(place) and _BACK.search(place):
        return "subtract", {"a": year, "b": count}
    return ("add", {"a": year, "b": count}) if _FORTH.search(place) and count < 1000 else None


# Days after a date

MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_MONTH = rf"({'|'.join(f'{month[:3]}(?:{month[3:]})?' for month in MONTHS)}|Sept)\.?"
_NTH = r"(?:the )?(\d{1,2})(?:st|nd|rd|th|\.)?"
_DATE = re.compile(
    rf"\b(?:{_NTH} (?:day )?(?:of )?{_MONTH}|{_MONTH} {_NTH})(?![\w/]|,? \d{4})", re.IGNORECASE
)
_FORWARD = re.compile(
    r"\b(?:after|from|later|past|plus|add|adding|ahead|forward|in|following|hence|on|more|takes?|needs?"
    r"|then|again|passed|until|runs?|lasts?|long)\b|\+"
)
_NOT_DAYS = re.compile(
    r"\b(?:before|ago|earlier|prior|previous|many|much|weekday|business|working|every|twice|months?|hours?)\b"
)
_DAYS_OF = re.compile(r"(?<!\S)# (days?|dyas|weeks?|wks?)(?!\S)")
_WHEN = re.compile(r"\b(?:date|daet|when|which day|what day|deadline|due|day of)\b")
_BARE = re.compile(
    r"[@~#+?.,=:! ]|\b(?:days?|weeks?|wks?|after|from|plus|later|on|past|the|add|to|further|hence|please"
    r"|pls|in|so|and|what's|whats|what|is|calculate|compute|count|counting|forward|ahead|go|then|of"
    r"|calendar|clock|question|quick|can|you|it|that|would|will|be|get|i|say|how late|now|more)\b"
)
"""Words that an exercise may contain in addition to a date or time."""


def _days_after(text: str) -> _Found:
    if len(dates := list(_DATE.finditer(text))) != 1:
        return None
    [found] = dates
    said, numbers = _read_words(f"{text[: found.start()]} @ {text[found.end() :]}")
    spans = list(_DAYS_OF.finditer(said))
    if len(numbers) != 1 or len(spans) != 1 or _NOT_DAYS.search(said) or not _FORWARD.search(said):
        return None
    beside = said[: spans[0].start()] + said[spans[0].end() :]
    if re.search(r"\ban? day\b|\bweek", beside) or not (_WHEN.search(said) or not _BARE.sub("", said)):
        return None
    number, name = (found[1], found[2]) if found[1] else (found[4], found[3])
    month = next(each for each in MONTHS if each.startswith(name[:3].capitalize()))
    day, days = int(number), numbers[0] * (7 if spans[0][1][0] == "w" else 1)
    if not 1 <= day <= _DAYS[MONTHS.index(month)] or not 5 <= days <= 95:
        return None
    inside = (date(2023, MONTHS.index(month) + 1, day) + timedelta(days)).year == 2023  # no 29 February
    return ("dates", {"day": day, "month": month, "days": days}) if inside else None


# Minutes after a time of day

_TIME = re.compile(r"(?<![\d:])([01]?\d|2[0-3]):([0-5]\d)(?![\d:]|\s*(?:am|pm|a\.m|p\.m)\b)", re.IGNORECASE)
_LASTS = re.compile(
    r"(?<!\S)(?:# (?:hours?|h)(?: (?:and )?# (?:minutes?|mins?|m))?|# (?:minutes?|mins?))(?!\S)"
)
_NOT_LATER = re.compile(
    r"before|ago\b|earlier|every|\band again\b|must (?:be|leave|go) at|and need|when did it"
    r"|have to (?:leave|go|be there|start)|time zone is|speed|far|cost",
    re.IGNORECASE,
)
_WHAT_TIME = re.compile(
    r"\b(?:time|when|wen|till|until|arriv\w+|ready|ends?|done|finish(?:ed)?|over|back|off|out|free|stop"
    r"|due)\b"
)


def _later(text: str) -> _Found:
    times = list(_TIME.finditer(text))
    if len(times) != 1 or _NOT_LATER.search(text):
        return None
    [found] = times
    said, numbers = _read_words(f"{text[: found.start()]} @ {text[found.end() :]}")
    spans = list(_LASTS.finditer(said))
    if len(spans) != 1 or len(numbers) != spans[0][0].count("#"):
        return None
    said = said[: spans[0].start()] + "~" + said[spans[0].end() :]
    if not _WHAT_TIME.search(said) and _BARE.sub("", said):
        return None
    hours, minutes = numbers if len(numbers) == 2 else (0, numbers[0])
    if spans[0][0].startswith("# h"):
        hours, minutes = numbers[0], sum(numbers[1:])
    start, minutes = int(found[1]) * 60 + int(found[2]), hours * 60 + minutes
    if not 5 <= minutes < 180 or start + minutes >= 24 * 60:
        return None
    return "later", {"time": clock(start), "minutes": minutes}


# The total of a list

_HOW_MUCH = re.compile(
    r"\b(?:total|totla|totl|sums?|altogether|all together|together|togehter|in all|how much|add(?:ed"
    r"|ing)?(?: \w+)? up|add|pay|owe|spend|spent|bill|receipt|come to)\b"
)
_NOT_TOTAL = re.compile(
    r"\b(?:change|split|each|per|discount|tax|vat|most|least|cheap(?:er|est)?|expensive|sort|order by|every"
    r"|return|left|years?|old|many|kg|grams?|litres?|points|minutes|versions?|times|more|less|minus)\b|-"
)
_ITEM = (
    r"(?:(?!(?:at|for|with|of|between|per|each|from|to|in|is|are|by|add) )[a-z'][a-z']* ){1,2}# (?:, and "
    r"|, |and |; |\. )?"
)
_LIST = re.compile(rf"# (?:(?:,|\+|plus|and|&|, and) #(?: |$)){{2,5}}|(?<!\S)(?:{_ITEM}){{3,6}}")


def _total(text: str) -> _Found:
    said, numbers = _read_words(text)
    found = _LIST.search(f"{said} ")
    if not found or not 3 <= len(numbers) == found[0].count("#") <= 6 or _NOT_TOTAL.search(said):
        return None
    asked = "+" in found[0] or "plus" in found[0] or _HOW_MUCH.search(said)
    inside = asked and all(0 < number < 100 for number in numbers)
    return ("total", {"sum": " + ".join(map(str, numbers))}) if inside else None


_KNOWN = frozenset(
    word for each in (_ADD, _LESS, _TIMES) for word in re.findall(r"[a-z']+", each.pattern) if len(word) > 3
).union(
    ("time", "minute", "minutes", "hour", "hours", "starts", "called"),
    ("days", "day", "week", "weeks", "year", "years"),
)
"""Words that replace misspelt words in prompts."""


# The written steps of each exercise


def _columns(a: int, b: int) -> Iterator[tuple[str, int, int]]:
    # A small model cannot find the third digit from the right, but it can read and remove the last one.
    while a or b:
        yield f"{a} {b}: ", a % 10, b % 10
        a, b = a // 10, b // 10


def _columns_of_sum(values: Mapping[str, Any]) -> str:
    columns, carry, digits = [], 0, ""
    for left, x, y in _columns(values["a"], values["b"]):
        total = x + y + carry
        digits = f"{total % 10}{digits}"
        columns.append(f"{left}{x}+{y}{'+1' if carry else ''}={total} [{digits}]")
        carry = total // 10
    return ", ".join((*columns, f"1 [1{digits}]") if carry else columns)


def _columns_of_difference(values: Mapping[str, Any]) -> str:
    columns, borrowed, digits = [], 0, ""
    for left, x, y in _columns(values["a"], values["b"]):
        less = y + borrowed
        taken = f"{y}+1={less}" if borrowed else f"{y}"
        borrowed = int(x < less)
        from_ = x + 10 * borrowed
        digits = f"{from_ - less}{digits}"
        lent = " borrow" if borrowed else ""
        columns.append(f"{left}{taken} from {x}: {from_}-{less}={from_ - less}{lent} [{digits}]")
    return ", ".join(columns)


def _columns_of_product(values: Mapping[str, Any]) -> str:
    (a, b), columns, carry, digits = (values["a"], values["b"]), [], 0, ""
    while a:
        product = a % 10 * b
        total = product + carry
        digits = f"{total % 10}{digits}"
        carried = f", {product}+{carry}={total}" if carry else ""
        columns.append(f"{a} {b}: {a % 10}*{b}={product}{carried} [{digits}]")
        a, carry = a // 10, total // 10
    return ", ".join((*columns, f"{carry} [{carry}{digits}]") if carry else columns)


def _one_by_one(values: Mapping[str, Any]) -> str:
    so_far, *others = map(int, values["sum"].split(" + "))
    steps = []
    for number in others:
        for part in filter(None, (number // 10 * 10, number % 10)):
            steps.append(f"{so_far}+{part}={so_far + part}")
            so_far += part
    return f"{values['sum'].replace(' +', '')}: {', '.join(steps)}"


_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def _month_by_month(values: Mapping[str, Any]) -> str:
    month, day = MONTHS.index(values["month"]), values["day"] + values["days"]
    steps = [f"{values['day']}+{values['days']}={day}"]
    while day > _DAYS[month]:
        steps.append(f"{MONTHS[month]} has {_DAYS[month]}, {day}-{_DAYS[month]}={day - _DAYS[month]}")
        day -= _DAYS[month]
        month += 1
    return ", ".join((*steps, f"{MONTHS[month]} has {_DAYS[month]}"))


def _hour_by_hour(values: Mapping[str, Any]) -> str:
    hour, minute = map(int, values["time"].split(":"))
    total = minute + values["minutes"]
    steps = [f"{values['time']} {values['minutes']}: {minute}+{values['minutes']}={total}"]
    while total >= 60:
        steps.append(f"{total}-60={total - 60}, {hour}+1={hour + 1}")
        hour, total = hour + 1, total - 60
    return ", ".join(steps)


WORK: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "add": _columns_of_sum,
    "subtract": _columns_of_difference,
    "multiply": _columns_of_product,
    "total": _one_by_one,
    "dates": _month_by_month,
    "later": _hour_by_hour,
}
"""For each task, a function that solves an exercise step by step. A critic learns to write these steps."""


def _date_after(values: Mapping[str, Any]) -> str:
    end = date(2023, MONTHS.index(values["month"]) + 1, values["day"]) + timedelta(values["days"])
    return f"{end.day} {MONTHS[end.month - 1]}"


def clock(minutes: int) -> str:
    """Return a time of day, such as 9:05, from the minutes since midnight."""
    return f"{minutes // 60}:{minutes % 60:02}"


def _time_after(values: Mapping[str, Any]) -> str:
    hour, minute = map(int, values["time"].split(":"))
    return clock(hour * 60 + minute + values["minutes"])


RIGHT: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "add": lambda values: str(values["a"] + values["b"]),
    "subtract": lambda values: str(values["a"] - values["b"]),
    "multiply": lambda values: str(values["a"] * values["b"]),
    "total": lambda values: str(sum(map(int, values["sum"].split(" + ")))),
    "dates": _date_after,
    "later": _time_after,
}
"""For each task, a function that returns the right answer to an exercise."""
