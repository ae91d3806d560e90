"""`output=SomeModel`: the answer becomes a pydantic object, and pydantic's errors become the feedback.

The check and `parse_output` read an answer's JSON the same way (`structure.read_json`), so an answer that
passes always gives an object.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from redraft.chain import Prompt, describe
from redraft.errors import UsageError
from redraft.verify.base import Check, Outcome, failed, passed
from redraft.verify.structure import NotJson, demand_of_schema, read_json

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class ModelCheck:
    """The answer is JSON that the pydantic model accepts."""

    model: type[BaseModel]

    @property
    def name(self) -> str:
        """The name in records; this check has no short form."""
        return f"output:{self.model.__name__}"

    @property
    def demand(self) -> str:
        """The model's JSON schema, as a demand."""
        return demand_of_schema(self.model.model_json_schema())

    def check(self, answer: str, prompt: Prompt) -> Outcome:  # noqa: ARG002  (every check takes the prompt)
        """Pass if the JSON makes an object. The message names the wrong fields."""
        try:
            self.model.model_validate_json(read_json(answer)[1])
        except NotJson as error:
            return failed(str(error), score=error.read / 2)
        except ValidationError as error:
            count = error.error_count()
            more = f"; and {count - 3} more" if count > 3 else ""
            message = f"The JSON is not a valid {self.model.__name__}: {describe(error)}{more}."
            return failed(message, score=0.5 + 0.5 / (1 + count))
        return passed(f"The answer is a valid {self.model.__name__}.")


def from_model(model: type[BaseModel]) -> Check:
    """Return a check that an answer is JSON for this model.

    Raises:
        UsageError: The model has a pattern for Python's `re`, which cannot be interrupted.
    """
    if pattern := _endless_pattern(model.__pydantic_core_schema__):
        raise UsageError(
            f"{model.__name__} has the pattern {pattern:.80} for Python's re,"
            " which may run for ever on some answers and cannot be interrupted.",
            hint="Give the pattern as a string, without regex_engine: pydantic's default always ends.",
        )
    return ModelCheck(model)


def _endless_pattern(schema: object, engine: str = "rust-regex") -> str | None:
    """Return a pattern in a core schema for Python's `re`, compiled or by `regex_engine`; else None."""
    if isinstance(schema, list | tuple):
        return next(filter(None, (_endless_pattern(part, engine) for part in schema)), None)
    if not isinstance(schema, Mapping):
        return None
    engine = _engine_of(schema.get("config")) or engine
    pattern = schema.get("pattern") if schema.get("type") == "str" else None
    if isinstance(pattern, re.Pattern):
        return str(pattern.pattern)
    if isinstance(pattern, str) and (schema.get("regex_engine") or engine) == "python-re":
        return pattern
    return next(filter(None, (_endless_pattern(part, engine) for part in schema.values())), None)


def _engine_of(config: Any) -> str | None:
    return config.get("regex_engine") if isinstance(config, Mapping) else None


def parse_output(model: type[Model], answer: str) -> Model | None:
    """Return the object in an answer, or None if the answer fails the check of this model."""
    try:
        return model.model_validate_json(read_json(answer)[1])
    except (NotJson, ValidationError):
        return None
