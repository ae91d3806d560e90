"""Sums, differences and dates: what is worked out column by column, or month by month."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from random import Random

from redraft.train.self.tasks.task import SAID, Task, Values, equal_to


def spoiled_number(number: int, rng: Random) -> str:
    """Return a number with a carry too many or too few, another digit, two exchanged, or one left out."""
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


def _sum(values: Values) -> str:
    return str(values["a"] + values["b"])


def _of_any_length(rng: Random) -> int:
    return rng.randint(1, 10 ** rng.randint(2, 5) - 1)


def _columns(a: int, b: int) -> Iterator[tuple[str, int, int]]:
    """Yield the last digits of both numbers, with what is left of them written before; then those of the
    rest.

    A small model does not find the third digit from the right in numbers of unequal lengths. It can copy a
    number without its last digit, and then read the last one.
    """
    while a or b:
        yield f"{a} {b}: ", a % 10, b % 10
        a, b = a // 10, b // 10


def _columns_of_sum(values: Values) -> str:
    """Return the columns from the right, each with the digits so far: a small model cannot gather them at the
    end.
    """
    columns, carry, digits = [], 0, ""
    for left, x, y in _columns(values["a"], values["b"]):
        total = x + y + carry
        digits = f"{total % 10}{digits}"
        columns.append(f"{left}{x}+{y}{'+1' if carry else ''}={total} [{digits}]")
        carry = total // 10
    return ", ".join((*columns, f"1 [1{digits}]") if carry else columns)


ADD = Task(
    name="add",
    wordings=SAID["add"],
    draw=lambda rng: {"a": _of_any_length(rng), "b": _of_any_length(rng)},
    right=_sum,
    spoil=lambda values, rng: spoiled_number(int(_sum(values)), rng),
    judge=equal_to(_sum, _columns_of_sum),
)


def _difference(values: Values) -> str:
    return str(values["a"] - values["b"])


def _columns_of_difference(values: Values) -> str:
    """Return the columns from the right, each with the digits so far.

    What is taken away is written first: whether to borrow cannot be said before both digits are read.
    """
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


def _larger_first(rng: Random) -> Values:
    low, high = sorted((_of_any_length(rng), _of_any_length(rng)))
    return {"a": high, "b": low}


SUBTRACT = Task(
    name="subtract",
    wordings=SAID["subtract"],
    draw=_larger_first,
    right=_difference,
    spoil=lambda values, rng: spoiled_number(int(_difference(values)), rng),
    judge=equal_to(_difference, _columns_of_difference),
)

# Dates: so many days after a day, month by month.

_YEAR = 2023  # no leap year
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def _start_of_days(rng: Random) -> Values:
    start = date(_YEAR, 1, 1) + timedelta(rng.randrange(365))
    days = rng.randint(5, 95)
    if (start + timedelta(days)).year != _YEAR:
        return _start_of_days(rng)
    return {"day": start.day, "month": _MONTHS[start.month - 1], "days": days}


def _after(values: Values) -> str:
    start = date(_YEAR, _MONTHS.index(values["month"]) + 1, values["day"])
    return _told(start + timedelta(values["days"]))


def _told(day: date) -> str:
    return f"{day.day} {_MONTHS[day.month - 1]}"


def _month_by_month(values: Values) -> str:
    month, day = _MONTHS.index(values["month"]), values["day"] + values["days"]
    steps = [f"{values['day']}+{values['days']}={day}"]
    while day > _DAYS[month]:
        steps.append(f"{_MONTHS[month]} has {_DAYS[month]}, {day}-{_DAYS[month]}={day - _DAYS[month]}")
        day -= _DAYS[month]
        month += 1
    return ", ".join((*steps, f"{_MONTHS[month]} has {_DAYS[month]}"))


def _spoiled_date(values: Values, rng: Random) -> str:
    number, month = _after(values).split()
    if rng.random() < 0.3:
        return f"{number} {_MONTHS[(_MONTHS.index(month) + rng.choice((-1, 1))) % 12]}"
    return f"{max(1, int(number) + rng.choice((-3, -2, -1, -1, 1, 1, 2, 3)))} {month}"


AFTER = Task(
    name="dates",
    wordings=SAID["dates"],
    draw=_start_of_days,
    right=_after,
    spoil=_spoiled_date,
    judge=equal_to(_after, _month_by_month),
)
