"""The errors that redraft raises on purpose. An error's hint says what to do or type next.

RedraftError
├── UsageError            wrong arguments, options or files (exit status 2)
│   ├── RecordError       an invalid record; names file, line and field
│   ├── CheckSyntaxError  an invalid check expression
│   ├── MissingExtra      a package that is not installed
│   └── OutputError       the output cannot be written, is locked, or belongs to another run
├── CheckError            a check crashed (exit status 2)
│   └── NoScore           a judge replied without a score
├── HookError             the function given as `on_event` crashed
└── EngineError           the model or its server failed (exit status 3)
    ├── ModelError        a model file or adapter is missing, damaged or incompatible
    ├── ContextError      the prompt is longer than the context
    ├── ServerError       a server refused a request, failed, or broke the protocol
    ├── EmptyReply        the model ended without an answer
    ├── EngineTimeout     no reply within the time limit
    └── EngineCrash       the process that runs the model died

On the command line, `cli` prints the message and the hint without a traceback. An error that interrupts a
chain has the unfinished chain in its attribute `chain`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextvars import ContextVar
from os import PathLike
from pathlib import Path
from typing import Any


class RedraftError(Exception):
    """The base class of all errors of redraft.

    Attributes:
        message: What is wrong, with the value that was found.
        hint: The next thing to do or type, or None.
        chain: The unfinished `redraft.Chain`; None if the error did not interrupt a chain.
    """

    exit_status = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message, self.hint = message, hint
        self.chain: Any = None

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


def one_line(message: str, hint: str | None) -> str:
    """Return a message and a hint as sentences on one line."""
    end = "" if message.endswith((".", "!", "?", "…")) else "."
    return f"{message}{end} {hint}" if hint else message


def fault_of(error: Exception) -> str:
    """Return a parser's error message, reworded if Python's message is unclear."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    said = " ".join(str(error).split())
    return "a number in it has too many digits" if said.startswith("Exceeds the limit") else said


def crash_of(error: BaseException) -> str:
    """Describe an error and its location: `rules.py:12, in polite: KeyError: 'x'`.

    The location is the last frame in the user's code or, if there is none, in an installed package.
    """
    import sysconfig
    import traceback

    text = f"{type(error).__name__}: {error}"
    installed = tuple(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    python = (str(Path(__file__).parent), "<", *map(sysconfig.get_path, ("stdlib", "platstdlib")))
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if not frame.filename.startswith(python[:2])]
    own = [frame for frame in theirs if not frame.filename.startswith((*python, *installed))]
    own = own or [frame for frame in theirs if frame.filename.startswith(installed)]
    return f"{Path(own[-1].filename).name}:{own[-1].lineno}, in {own[-1].name}: {text}" if own else text


IN_JSON: ContextVar[bool] = ContextVar("in_json", default=False)
"""Whether messages write values as JSON (`true`, `null`), because the client sent JSON."""


def shown(value: object) -> str:
    """Return a value as text for a message. A list or mapping is shown as the type: `a list`."""
    if isinstance(value, list | dict):
        kind = "object" if IN_JSON.get() and isinstance(value, dict) else type(value).__name__
        return f"a{'n' * (kind == 'object')} {kind}" if value else f"an empty {kind}"
    try:
        return json.dumps(value, default=repr)[:80] if IN_JSON.get() else f"{value!a:.80}"
    except ValueError:  # Python prints no number of over 4,300 digits
        return "a number of thousands of digits"


def path_of(given: object) -> Path:
    """Convert a value to a path. Raise `UsageError` if the value does not name a file."""
    if not isinstance(given, str | PathLike) or not str(given):
        raise UsageError(f"{shown(given)} does not name a file.", hint="Write a path, such as 'data.jsonl'.")
    return Path(given)


_ELSEWHERE = """
max_tokens: n_predict num_predict max_new_tokens max_completion_tokens max_output_tokens
max_revisions: revisions rounds iterations max_retries
retries: max_retries
parallel: workers jobs concurrency max_concurrent batch_size
model: url base_url api_base endpoint modle
limit: max_samples num_samples
host: bind address listen
out: output output_file
output: response_model response_format schema json_schema
drafts: best_of n
json: format
json_schema: schema
debug: verbose
nothing: stream no_stream out
learning_rate: lr
num_train_epochs: epochs
per_device_train_batch_size: batch_size
model_name_or_path: model
model_max_length: max_seq_length
output_dir: output
data_path: data dataset
contains: has include includes mention mentions keyword keywords
lacks: exclude excludes without not avoid avoids
matches: regex regexp
starts: begin begins beginswith
"""
"""redraft's names of options and checks, each with the names that other programs use."""


def nearest(name: str, known: Iterable[str], before: str = "") -> str:
    """Return "Did you mean …?" with the nearest known names, or "" if no name is near.

    `before` is a prefix for the suggested names, such as `--`.
    """
    from difflib import get_close_matches

    known, name, plain = list(known), name[:80], name.replace("-", "_")  # difflib takes 40 times its memory
    ours = [line.split(":")[0] for line in _ELSEWHERE.splitlines() if plain in line.split()[1:]]
    near = [each for each in known if each.replace("-", "_") in ours]
    if not ours:
        begun = sorted((each for each in known if each.startswith(name) and len(name) > 2), key=len)
        near = begun[:1] or get_close_matches(name, known, n=1, cutoff=0.65)
    return f"Did you mean {' or '.join(repr(before + each) for each in near)}?" if near else ""


class UsageError(RedraftError):
    """Wrong arguments, options or files."""

    exit_status = 2


class RecordError(UsageError):
    """A record is invalid, or contains something that an engine does not accept, such as an image."""


class CheckSyntaxError(UsageError):
    """A check does not follow the grammar of docs/checks.md."""


def install(extra: str) -> str:
    """Return the command that installs an extra from a checkout."""
    return f"pip install '.[{extra}]' (in the checkout of redraft)"  # there is no release yet


NEWER = "git pull && pip install . (in the checkout of redraft)"  # the command that installs a newer redraft


class MissingExtra(UsageError, ImportError):
    """redraft needs a package that is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs the extra '{extra}', which is not installed.", hint=install(extra))


class _Absent(type):
    _extra = ""

    def __call__(cls, *_args: object, **_options: object) -> object:
        raise MissingExtra(f"redraft.{cls.__name__}", cls._extra)

    def __getattr__(cls, name: str) -> object:
        if name.startswith("_"):
            raise AttributeError(name)
        raise MissingExtra(f"redraft.{cls.__name__}", cls._extra)


def absent(name: str, extra: str) -> type:
    """Return a placeholder for a public name. Using the placeholder raises `MissingExtra`."""
    about = f"Not installed. {install(extra)}"
    return _Absent(name, (), {"__doc__": about, "__module__": "redraft", "_extra": extra})


class OutputError(UsageError):
    """An output file cannot be written, is in use, or belongs to another run."""


class CheckError(RedraftError):
    """A check crashed, so the answer was not judged."""

    exit_status = 2


class NoScore(CheckError):
    """A judge replied without a score."""


class HookError(RedraftError):
    """The function given as `on_event` crashed, or is async."""


class EngineError(RedraftError):
    """The model or its server failed.

    Attributes:
        passing: Whether the same request may succeed later.
        ready: Whether the request can be repeated at once, on another server or in a new process.
    """

    exit_status = 3
    ready = False

    def __init__(self, message: str, *, hint: str | None = None, passing: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.passing = passing

    @property
    def for_log(self) -> str:
        """The message up to the first colon. A server's text after the colon may quote a prompt."""
        return self.message.partition(": ")[0]


class ModelError(EngineError):
    """A model file or adapter is missing, damaged or incompatible."""


class ContextError(EngineError):
    """A prompt is longer than the model's context. All arguments except `trained` are also attributes.

    Args:
        prompt_tokens: Length of the prompt in tokens.
        context: Length of the context in tokens.
        trained: The context length the model was trained for; None if the user cannot set the context.
        about: Whether `prompt_tokens` is estimated from the beginning of the prompt.
    """

    def __init__(
        self, prompt_tokens: int, context: int, *, trained: int | None = None, about: bool = False
    ) -> None:
        hint = "Shorten the prompt"
        if trained is not None and prompt_tokens < trained:
            longer = min(prompt_tokens + 1024, trained)
            hint += f", or ask for a longer context: --ctx {longer} (in Python: load_engine(…, ctx={longer}))"
        elif trained is not None:
            hint += f": the model was trained for {trained} tokens, prompt and answer together"
            more = f"--ctx {trained} (in Python: load_engine(…, ctx={trained}))"
            hint += f". Then use all of it: {more}" * (context < trained)
        found = f"the prompt has {'about ' * about}{prompt_tokens} tokens and the context holds {context}."
        super().__init__(found, hint=f"{hint}.")
        self.about, self.prompt_tokens, self.context = about, prompt_tokens, context


class ServerError(EngineError):
    """A server refused a request, failed, or broke the protocol."""

    retry_after: float | None = None  # seconds that the server asks to wait
    reason = ""  # the server's own words, for clients, who must not see the addresses and keys in `message`

    def __init__(
        self, message: str, *, hint: str | None = None, status: int | None = None, passing: bool = False
    ) -> None:
        super().__init__(message, hint=hint, passing=passing)
        self.status = status


class EmptyReply(EngineError):
    """A model ended without an answer: it called a tool, wrote only thoughts, or generated nothing."""

    by_itself = False  # whether the model ended at once. Some callers allow such an empty answer.
    cut = False  # whether `max_tokens` was reached before an answer, or the context was full


class EngineTimeout(EngineError):
    """The engine did not reply within the time limit."""


class EngineCrash(EngineError):
    """The process that runs the model died."""
