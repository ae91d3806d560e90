"""Define the names of the formats of training texts and of exported records."""

from __future__ import annotations

from typing import Literal

TrainingFormat = Literal["selfee", "alpaca", "vicuna", "stablevicuna", "chat"]
"""The format of a chain's text for training. `chat` is the model's own template."""

Objective = Literal["accepted", "full", "answer", "revision", "critic"]
"""The part of a chain on which the loss is computed.

`accepted`: all that the model writes except rejected answers. `full`: everything. `answer`: the accepted
answer, without feedback. `revision`: all but the first answer. `critic`: feedback and the text that ends it.
"""

ExportFormat = Literal["selfee", "alpaca", "sharegpt", "messages", "preference", "every-eval-ever"]
"""The formats of other programs in which a chain can be written."""
