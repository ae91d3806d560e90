"""Find tasks that redraft ships, and tasks in a user's module."""

from __future__ import annotations

from dataclasses import replace

from redraft.checks.function import imported
from redraft.errors import UsageError
from redraft.train.self.tasks.numbers import ADD, AFTER, LATER, MULTIPLY, SUBTRACT, TOTAL
from redraft.train.self.tasks.task import Task

_SHIPPED = (ADD, SUBTRACT, MULTIPLY, TOTAL, AFTER, LATER)
TASKS = {task.name: replace(task, licence="Apache-2.0") for task in _SHIPPED}


def find_task(name: str) -> Task:
    """Return a shipped task by name, or a user's task by `python:module.TASK`.

    Raises:
        UsageError: No task has this name.
        CheckError: The module cannot be imported.
    """
    hint = f"Known tasks: {', '.join(TASKS)}; or python:module.TASK (docs/self_tasks.md)."
    if name in TASKS:
        return TASKS[name]
    module, _, attribute = name.removeprefix("python:").rpartition(".")
    if not name.startswith("python:") or not module:
        raise UsageError(f"there is no task {name!r}.", hint=hint)
    found = getattr(imported(module, name.removeprefix("python:")), attribute, None)
    if not isinstance(found, Task):
        raise UsageError(f"{name}: {attribute} is of the type {type(found).__name__}, not Task.", hint=hint)
    return found
