"""Published records and training texts, to and from chains. The names of all formats are defined here."""

from __future__ import annotations

from typing import Literal

TrainingFormat = Literal["selfee", "alpaca", "vicuna", "stablevicuna", "chat"]
"""The texts that a chain becomes for training. `chat` is the model's own template."""

Objective = Literal["accepted", "full", "answer", "revision", "critic"]
"""What carries loss in training.

`accepted`: everything that the model writes but rejected answers. `full`: everything. `answer`: the accepted
answer, without its feedback. `revision`: everything but answer 0. `critic`: feedbacks, each with its end.
"""

ExportFormat = Literal["selfee", "alpaca", "sharegpt", "messages", "preference", "every-eval-ever"]
"""The formats of other programs that a chain can be written in."""
