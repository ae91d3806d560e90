"""Train a model to answer, check and revise: tasks, training records, and the stages of training."""

from redraft.train.self.tasks.numbers import spoiled_number
from redraft.train.self.tasks.task import Judged, Task, Values, equal_to

__all__ = ["Judged", "Task", "Values", "equal_to", "spoiled_number"]
