"""Measure answers: judged pairs, tasks with checkable truth, and their statistics.

The package can be called: `redraft.evaluate(…)` is `redraft.evaluate.api.evaluate`. Package and function have
one name, and importing any module in here would hide a plain function.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Evaluate(ModuleType):
    def __call__(self, *args: Any, **options: Any) -> Any:
        from redraft.evaluate.api import evaluate

        return evaluate(*args, **options)


sys.modules[__name__].__class__ = _Evaluate
