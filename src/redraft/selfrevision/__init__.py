"""A model that revises by itself: its tasks, its lessons, and the road that makes it."""

from redraft.selfrevision.tasks.numbers import spoiled_number
from redraft.selfrevision.tasks.task import Judged, Task, Values, equal_to

__all__ = ["Judged", "Task", "Values", "equal_to", "spoiled_number"]
