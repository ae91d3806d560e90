"""Every error that redraft raises on purpose, in one tree, each with a hint at what to type next.

RedraftError
├── UsageError            what was asked cannot be done as asked (exit status 2)
│   ├── RecordError       a line of a file is not the record it should be: file, line, field
│   ├── CheckSyntaxError  a check is written wrongly
│   ├── MissingExtra      a part that is not installed
│   └── OutputError       the output cannot be written, is locked, or is somebody else's
├── CheckError            a check itself crashed; it says nothing about the answer (exit status 2)
└── EngineError           the model or its server (exit status 3)
    ├── ModelError        a model file or adapter that is missing, damaged, or does not fit
    ├── ContextError      the prompt is longer than the context
    ├── ServerError       a server said no, or said something that is not the protocol
    ├── EmptyReply        the model ended without a text
    ├── EngineTimeout     nothing came within the time limit
    └── EngineCrash       the process that runs the model died

An error carries no traceback to a user of the command line: `cli` prints the message and the hint.
Errors that a chain was cut by carry what was generated until then in `chain`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from redraft.chain import Chain


class RedraftError(Exception):
    """Any error of redraft's own.

    Attributes:
        message: What was wrong with which input, and what was found.
        hint: What to do or type next, or None.
        chain: The chain until the error, where one was begun.
    """

    exit_status = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.chain: Chain | None = None

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class UsageError(RedraftError):
    """What was asked cannot be done as asked."""

    exit_status = 2


class RecordError(UsageError):
    """A record of a file is not what it should be. The message names file, line and field."""


class CheckSyntaxError(UsageError):
    """A check is written in a way that the grammar of docs/checks.md does not have."""


class MissingExtra(UsageError):
    """A part of redraft that was not installed is needed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f"{what} needs the extra '{extra}', which is not installed.",
            hint=f"pip install 'redraft[{extra}]'",
        )


class OutputError(UsageError):
    """An output file cannot be written, is in use, or was made by another run."""


class CheckError(RedraftError):
    """A check crashed. This is a fault of the check: it says nothing about the answer."""

    exit_status = 2


class EngineError(RedraftError):
    """The model, or the server it runs on, could not do its work."""

    exit_status = 3


class ModelError(EngineError):
    """A model file or adapter is missing, damaged, or does not fit."""


class ContextError(EngineError):
    """A prompt is longer than the model's context.

    Attributes:
        prompt_tokens: Length of the prompt in tokens.
        context: Length of the context in tokens.
    """

    def __init__(self, prompt_tokens: int, context: int, *, trained: int | None = None) -> None:
        """Make the error.

        Args:
            prompt_tokens: See above.
            context: See above.
            trained: The longest context that the model was trained for, where the user chooses the context.
        """
        hint = "Shorten the prompt"
        if trained is not None and prompt_tokens < trained:
            hint += f", or ask for a longer context: --ctx {min(prompt_tokens + 1024, trained)}"
        elif trained is not None:
            hint += f": the model was trained for {trained} tokens, prompt and answer together"
        super().__init__(
            f"the prompt has {prompt_tokens} tokens and the context holds {context}.", hint=f"{hint}."
        )
        self.prompt_tokens = prompt_tokens
        self.context = context


class ServerError(EngineError):
    """A server refused, failed, or answered with something that is not the protocol.

    Attributes:
        status: The HTTP status, or None where there was no reply.
        passing: It broke off in the middle of a reply, and the same request may well succeed.
    """

    def __init__(
        self, message: str, *, hint: str | None = None, status: int | None = None, passing: bool = False
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.passing = passing


class EmptyReply(EngineError):
    """A model ended without any text of an answer: it called a tool, only thought, or said nothing."""


class EngineTimeout(EngineError):
    """Nothing came from the engine within the time limit.

    Attributes:
        passing: The user waits longer than that for a server, so the same request is made again.
    """

    def __init__(self, message: str, *, hint: str | None = None, passing: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.passing = passing


class EngineCrash(EngineError):
    """The process that runs the model died."""
