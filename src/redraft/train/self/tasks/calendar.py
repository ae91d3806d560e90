"""Dates: so many days after a day, month by month."""

from __future__ import annotations

from datetime import date, timedelta
from random import Random

from redraft.train.self.tasks.task import Task, Values, equal_to

_YEAR = 2023  # no leap year
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def _start(rng: Random) -> Values:
    start = date(_YEAR, 1, 1) + timedelta(rng.randrange(365))
    days = rng.randint(5, 95)
    if (start + timedelta(days)).year != _YEAR:
        return _start(rng)
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


def _spoiled(values: Values, rng: Random) -> str:
    number, month = _after(values).split()
    if rng.random() < 0.3:
        return f"{number} {_MONTHS[(_MONTHS.index(month) + rng.choice((-1, 1))) % 12]}"
    return f"{max(1, int(number) + rng.choice((-3, -2, -1, -1, 1, 1, 2, 3)))} {month}"


AFTER = Task(
    name="dates",
    wordings=(
        "What date is {days} days after {day} {month}?",
        "Which day comes {days} days after {day} {month}?",
        "Add {days} days to {day} {month}.",
        "{day} {month} plus {days} days is which date?",
        "Today is {day} {month}. What is the date in {days} days?",
        "What is the date {days} days from {day} {month}?",
        "Count {days} days forward from {day} {month}.",
        "A bill of {day} {month} is due in {days} days. On which date?",
        "{days} days after {day} {month}: which date?",
        "Name the date that is {days} days later than {day} {month}.",
        "If it is {day} {month}, which date is it {days} days later?",
        "Find the date {days} days after {day} {month}.",
        "A trip starts on {day} {month}. Which date is {days} days later?",
        "What day of the year follows {day} {month} by {days} days?",
        "Tell me the date {days} days past {day} {month}.",
        "From {day} {month}, go {days} days ahead. What is the date?",
        "Please give the date {days} days after {day} {month}.",
        "Which date do I reach {days} days after {day} {month}?",
        "We meet on {day} {month} and again {days} days later. On which date?",
        "What will the date be {days} days after {day} {month}?",
    ),
    draw=_start,
    right=_after,
    spoil=_spoiled,
    judge=equal_to(_after, _month_by_month),
)
