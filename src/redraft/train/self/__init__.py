"""Make a model that revises by itself: its tasks, its training records, and the stages of its training."""

from redraft.train.self.tasks.numbers import spoiled_number
from redraft.train.self.tasks.task import Judged, Task, Values, equal_to

__all__ = ["Judged", "Task", "Values", "equal_to", "spoiled_number"]
