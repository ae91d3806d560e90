"""Define tasks to solve step by step in writing: sums, differences, products, totals, dates and times."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from random import Random

from redraft.engines.learnt import MONTHS, RIGHT, WORK, clock
from redraft.train.self.tasks.task import SAID, Task, Values, equal_to


def spoiled_number(number: int, rng: Random) -> str:
    """Return `number` with a wrong carry, a replaced digit, two exchanged digits, or a missing digit."""
    digits = list(str(number))
    place = rng.randrange(len(digits))
    kind = rng.choice(("carry", "carry", "carry", "digit", "exchange", "drop"))
    if kind == "carry":
        return str(abs(number + rng.choice((-1, 1)) * 10 ** rng.randrange(len(digits))))
    if kind == "digit":
        digits[place] = str(rng.randint(0, 9))
    elif kind == "exchange":
        other = place - 1 if place else min(1, len(digits) - 1)
        digits[place], digits[other] = digits[other], digits[place]
    elif len(digits) > 1:
        del digits[place]
    return str(int("".join(digits)))


def _task(name: str, draw: Callable[[Random], Values], spoil: Callable[[Values, Random], str]) -> Task:
    right = RIGHT[name]
    judge = equal_to(right, WORK[name])
    return Task(name=name, wordings=SAID[name], draw=draw, right=right, spoil=spoil, judge=judge)


def _of_numbers(name: str, draw: Callable[[Random], Values]) -> Task:
    return _task(name, draw, lambda values, rng: spoiled_number(int(RIGHT[name](values)), rng))


def _of_any_length(rng: Random) -> int:
    return rng.randint(1, 10 ** rng.randint(2, 5) - 1)


ADD = _of_numbers("add", lambda rng: {"a": _of_any_length(rng), "b": _of_any_length(rng)})


def _larger_first(rng: Random) -> Values:
    low, high = sorted((_of_any_length(rng), _of_any_length(rng)))
    return {"a": high, "b": low}


SUBTRACT = _of_numbers("subtract", _larger_first)


MULTIPLY = _of_numbers(
    "multiply", lambda rng: {"a": rng.randint(2, 10 ** rng.randint(1, 4) - 1), "b": rng.randint(2, 9)}
)


def _several(rng: Random) -> Values:
    most = rng.choice((9, 99, 99))
    return {"sum": " + ".join(str(rng.randint(1, most)) for _ in range(rng.randint(3, 6)))}


TOTAL = _of_numbers("total", _several)

_YEAR = 2023  # not a leap year


def _start_of_days(rng: Random) -> Values:
    start = date(_YEAR, 1, 1) + timedelta(rng.randrange(365))
    days = rng.randint(5, 95)
    if (start + timedelta(days)).year != _YEAR:
        return _start_of_days(rng)
    return {"day": start.day, "month": MONTHS[start.month - 1], "days": days}


def _spoiled_date(values: Values, rng: Random) -> str:
    number, month = RIGHT["dates"](values).split()
    if rng.random() < 0.3:
        return f"{number} {MONTHS[(MONTHS.index(month) + rng.choice((-1, 1))) % 12]}"
    return f"{max(1, int(number) + rng.choice((-3, -2, -1, -1, 1, 1, 2, 3)))} {month}"


AFTER = _task("dates", _start_of_days, _spoiled_date)

_DAY = 24 * 60


def _time_of_day(rng: Random) -> Values:
    start, later = rng.randrange(_DAY), rng.choice((rng.randint(5, 60), rng.randint(5, 179)))
    return _time_of_day(rng) if start + later >= _DAY else {"time": clock(start), "minutes": later}


def _spoiled_time(values: Values, rng: Random) -> str:
    hour, minute = map(int, RIGHT["later"](values).split(":"))
    return clock((hour * 60 + minute + rng.choice((-60, 60, 40, -10, -5, -1, 1, 5, 10, 20))) % _DAY)


LATER = _task("later", _time_of_day, _spoiled_time)
