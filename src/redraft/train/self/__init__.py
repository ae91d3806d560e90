"""Train a model to revise answers of the same model: tasks, training records, and stages of training."""

from redraft.train.self.tasks.numbers import spoiled_number
from redraft.train.self.tasks.task import Judged, Task, Values, equal_to

__all__ = ["Judged", "Task", "Values", "equal_to", "spoiled_number"]
