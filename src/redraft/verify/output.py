"""`output=SomeModel`: an answer that is to become an object. What pydantic finds wrong becomes the feedback.

The check and the parser read the same JSON out of an answer in the same way (`structure.read_json`), so an
answer that passes always gives an object.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from redraft.chain import Prompt, describe
from redraft.verify.base import Check, Outcome, failed, passed
from redraft.verify.structure import NotJson, read_json

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class ModelCheck:
    """The answer is JSON that the pydantic model accepts."""

    model: type[BaseModel]

    @property
    def name(self) -> str:
        """For the record only: this check has no short form."""
        return f"output:{self.model.__name__}"

    def check(self, answer: str, prompt: Prompt) -> Outcome:  # noqa: ARG002  (every check takes the prompt)
        """Passes where an object can be made. Says which fields are wrong, and how."""
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
    """A check that an answer is JSON for this model."""
    return ModelCheck(model)


def parse_output(model: type[Model], answer: str) -> Model | None:
    """The object in an answer, or None where the answer does not pass the check of this model."""
    try:
        return model.model_validate_json(read_json(answer)[1])
    except (NotJson, ValidationError):
        return None
