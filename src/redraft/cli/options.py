"""The flags that verbs share, and where their values come from.

A flag overrides a recipe, a recipe the config file, and the config file redraft's defaults. `takes(Flags)`
turns the fields of the dataclass into a command's options.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from functools import wraps
from math import inf
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from redraft.errors import UsageError
from redraft.verify.kinds import CHECK_KINDS

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from redraft.engines.base import Engine
    from redraft.engines.remote.patience import Patience
    from redraft.revise.api import Role
    from redraft.revise.options import Options

_MODEL, _LOOP, _SAMPLING, _BUDGET = "Model", "Revising", "Sampling", "Budget of the whole chain"
_SERVER = "Waiting for a server"

RETRIES = 4
"""Default number of retries of a request that a server failed."""


def _flag(group: str, *names: str, metavar: str | None = None, text: str) -> Any:
    return typer.Option(*names, metavar=metavar, help=text, rich_help_panel=group, show_default=False)


@dataclass(frozen=True)
class Flags:
    """The flags of both `ask` and `answer`. None means not given."""

    model: Annotated[
        str | None,
        _flag(
            _MODEL,
            "--model",
            "-m",
            metavar="REF",
            text="default, a GGUF file, org/name, http://host/v1#name …",
        ),
    ] = None
    critic: Annotated[str | None, _flag(_MODEL, metavar="REF", text="another model that criticises")] = None
    judge: Annotated[str | None, _flag(_MODEL, metavar="REF", text="the model of judge: checks")] = None
    ctx: Annotated[int | None, _flag(_MODEL, metavar="N", text="context of a chain, in tokens")] = None
    threads: Annotated[int | None, _flag(_MODEL, metavar="N", text="processor threads")] = None
    gpu_layers: Annotated[int | None, _flag(_MODEL, metavar="N", text="layers to put on a GPU")] = None

    recipe: Annotated[
        str | None,
        _flag(_LOOP, metavar="NAME|FILE", text="take flags from a recipe: a YAML file, or a shipped one"),
    ] = None
    mode: Annotated[
        str | None, _flag(_LOOP, metavar="MODE", text="auto, native, prompted or verified [auto]")
    ] = None
    check: Annotated[
        list[str] | None,
        _flag(_LOOP, "--check", "-c", metavar="CHECK", text="what the answer must meet; repeatable"),
    ] = None
    min_revisions: Annotated[int | None, _flag(_LOOP, metavar="N", text="fewest revisions [0]")] = None
    max_revisions: Annotated[int | None, _flag(_LOOP, metavar="N", text="most revisions [3]")] = None
    context: Annotated[
        str | None,
        _flag(_LOOP, metavar="WHAT", text="show critic and writer the last step, or the chain [last]"),
    ] = None
    system: Annotated[str | None, _flag(_LOOP, metavar="TEXT", text="a system message")] = None

    temperature: Annotated[float | None, _flag(_SAMPLING, metavar="T", text="0 is greedy [0.7]")] = None
    top_p: Annotated[float | None, _flag(_SAMPLING, metavar="P", text="nucleus size [1]")] = None
    max_tokens: Annotated[
        int | None,
        _flag(
            _SAMPLING, metavar="N", text="most new tokens of an answer or feedback; native: of a chain [2048]"
        ),
    ] = None
    seed: Annotated[int | None, _flag(_SAMPLING, metavar="N", text="makes a run repeatable")] = None

    budget_tokens: Annotated[int | None, _flag(_BUDGET, metavar="N", text="generated tokens")] = None
    budget_seconds: Annotated[float | None, _flag(_BUDGET, metavar="S", text="wall-clock time")] = None
    budget_usd: Annotated[float | None, _flag(_BUDGET, metavar="USD", text="money; needs a price")] = None
    price: Annotated[
        str | None,
        _flag(_BUDGET, metavar="IN,OUT[,CACHED]", text="USD per million tokens, unless the config file says"),
    ] = None

    timeout: Annotated[
        float | None, _flag(_SERVER, metavar="S", text="longest silence [300 to the first token, then 60]")
    ] = None
    retries: Annotated[
        int | None,
        _flag(_SERVER, metavar="N", text=f"repeat a failed request or a broken reply N times [{RETRIES}]"),
    ] = None
    patience: Annotated[
        float | None,
        _flag(_SERVER, metavar="S", text="wait for one that is down or busy [ask: 0, answer: 300]"),
    ] = None
    rpm: Annotated[int | None, _flag(_SERVER, metavar="N", text="most requests a minute")] = None
    tpm: Annotated[int | None, _flag(_SERVER, metavar="N", text="most tokens a minute")] = None


@dataclass(frozen=True)
class Settings(Flags):
    """Flags with recipe and config file filled in. Those without a default may still be None."""

    def options(self) -> Options:
        """Return the arguments of `arevise`, without model, critic and judge.

        Checks are parsed here, unless they may need the judge.

        Raises:
            UsageError: A value does not fit, as far as this can be told without the model.
        """
        from redraft.revise.budget import Budget
        from redraft.revise.options import look
        from redraft.verify.parse import parse_checks

        names = (
            "min_revisions",
            "max_revisions",
            "system",
            "temperature",
            "top_p",
            "max_tokens",
            "seed",
            "context",
        )
        given: Any = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        given["mode"] = self.mode or "auto"
        given["checks"] = self.check or [] if self.judge else parse_checks(self.check or ())
        given["budget"] = Budget(self.budget_tokens, self.budget_seconds, self.budget_usd)
        given["price"] = _price(self)
        look({**given, "model": self.model or "default", "critic": self.critic, "judge": self.judge})
        options: Options = given
        return options

    def waiting(self, *, usual: float = 0.0, tell: Callable[[str], None] | None = None) -> Patience:
        """Return how long to wait for servers, and how fast to ask them.

        Args:
            usual: Default seconds to wait for a server that is down.
            tell: Called with a reason when a wait begins, and with an empty text when it ends.

        Raises:
            UsageError: A value does not fit.
        """
        from redraft.engines.remote.patience import Patience

        for name, least in {"timeout": 0.001, "retries": 0, "patience": 0, "rpm": 1, "tpm": 1}.items():
            value = getattr(self, name)
            if value is not None and not least <= value < inf:
                raise UsageError(f"{name} is {value}.", hint=f"It should be {least} or more.")
        known: Any = {"rpm": self.rpm, "tpm": self.tpm, **({"tell": tell} if tell else {})}
        if self.timeout is not None:
            limits = {"first_token": self.timeout, "between_tokens": self.timeout}
            known |= {**limits, "connect": min(self.timeout, Patience.connect)}
        tries = 1 + (RETRIES if self.retries is None else self.retries)
        return Patience(tries=tries, outage=usual if self.patience is None else self.patience, **known)

    def references(self) -> dict[Role, str]:
        """Return the references of the models to open, by role."""
        named: dict[Role, str | None] = {
            "model": self.model or "default",
            "critic": self.critic,
            "judge": self.judge,
        }
        return {role: reference for role, reference in named.items() if reference}

    async def load(
        self, role: Role, reference: str, *, parallel: int = 1, patience: Patience | None = None
    ) -> Engine:
        """Open one model.

        Args:
            role: Its role. The flags of the model do not apply to critic and judge.
            reference: A model reference.
            parallel: Streams at once.
            patience: How long to wait for servers.

        Raises:
            EngineError: It cannot be loaded, or its server does not answer.
        """
        from redraft.cli.shell import tell
        from redraft.engines.load import lacks_adapter, load_engine

        if role != "model":
            return await load_engine(reference, parallel=parallel, patience=patience)
        if warning := lacks_adapter(reference):
            tell(warning)
        return await load_engine(
            reference,
            ctx=self.ctx,
            threads=self.threads,
            gpu_layers=self.gpu_layers,
            parallel=parallel,
            patience=patience,
        )

    async def opened(
        self, stack: AsyncExitStack, *, parallel: int = 1, patience: Patience | None = None
    ) -> Options:
        """Return the options with model, critic and judge opened. They are closed with the stack.

        Raises:
            UsageError: A value does not fit. Raised before a model is opened.
            EngineError: A model cannot be loaded, or its server does not answer.
        """
        from redraft.revise.options import insist_on_prices

        options = self.options()
        for role, reference in self.references().items():
            engine = await self.load(role, reference, parallel=parallel, patience=patience)
            stack.push_async_callback(engine.aclose)
            options[role] = engine
        insist_on_prices(options)
        return options


def settle(flags: Flags) -> Settings:
    """Fill in the values of recipe and config file.

    Raises:
        UsageError: The recipe or the config file has an error, or a flag is not UTF-8.
    """
    from redraft.config import load_config

    below = dict(load_config().defaults)
    if flags.recipe is not None:
        below |= read_recipe(flags.recipe)
    known = {field.name for field in fields(Flags)}
    given = {name: value for name, value in asdict(flags).items() if value is not None}
    for name, value in given.items():
        insist_on_utf8("--" + name.replace("_", "-"), *(value if isinstance(value, list) else [value]))
    settings = Settings(**{name: value for name, value in below.items() if name in known})
    return replace(settings, **given)


def insist_on_utf8(what: str, *values: Any) -> None:
    """Refuse texts that are not UTF-8, because a record cannot hold them.

    Raises:
        UsageError: A text is not UTF-8.
    """
    for value in values:
        try:
            str(value).encode()
        except UnicodeEncodeError as error:
            raise UsageError(
                f"{what} is not UTF-8 at character {error.start + 1}: {value!a:.60}.",
                hint="Convert it first: … | iconv -f latin1 -t utf-8",
            ) from None


def read_recipe(name: str) -> dict[str, Any]:
    """Return the flags of a recipe: a YAML file, or one that redraft ships.

    Raises:
        UsageError: There is no such recipe, or a key is not a flag.
    """
    import difflib

    from redraft.formats.documents import yaml_of

    path = _recipe_path(name)
    try:
        recipe = yaml_of(path.read_text(encoding="utf-8"), path) or {}
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(recipe, dict):
        raise UsageError(f"{path} holds a {type(recipe).__name__}, and a recipe is flags and values.")
    recipe = {str(key).replace("-", "_"): value for key, value in recipe.items() if key != "about"}
    known = {field.name for field in fields(Flags)} - {"recipe"}
    for key, value in recipe.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else "Keys: " + ", ".join(sorted(known))
            raise UsageError(f"{path}: a recipe has no key {key!r}.", hint=hint)
        recipe[key] = _typed(path, key, value)
    return recipe


def _typed(path: Path, key: str, value: Any) -> Any:
    """Return a recipe's value with the type of its flag."""
    wanted = get_type_hints(Flags)[key].__args__[0]
    if key == "check" and isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    if isinstance(value, wanted if key != "check" else ()) and not isinstance(value, bool):
        return value
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    kind = (
        "a list of checks"
        if key == "check"
        else {int: "a whole number", float: "a number", str: "a text"}[wanted]
    )
    raise UsageError(f"{path}: {key} is {value!r}, and should be {kind}.")


def _recipe_path(name: str) -> Path:
    shipped = Path(__file__).parent.parent / "recipes"
    for path in (Path(name), shipped / f"{name}.yaml"):
        if path.is_file():
            return path
    names = ", ".join(sorted(path.stem for path in shipped.glob("*.yaml")))
    raise UsageError(f"there is no recipe {name!r}.", hint=f"Give a YAML file, or one of: {names}")


def _price(settings: Settings) -> Any:
    """Return the price that was given, or None: a server's engine knows the config file's."""
    from redraft.engines.price import Price

    if settings.price is None:
        return None
    try:
        numbers = [float(part) for part in settings.price.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) in (2, 3) and all(0 <= number < inf for number in numbers):
        return Price(*numbers)
    hint = "Write USD per million tokens as PROMPT,COMPLETION or PROMPT,COMPLETION,CACHED: --price 0.5,1.5"
    raise UsageError(f"the price {settings.price!r} cannot be read.", hint=hint)


def takes(flags: type[Flags]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Turn the fields of a dataclass into options of a command, which receives them as `flags`."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(flags, include_extras=True)
        shared = [
            inspect.Parameter(
                f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=hints[f.name]
            )
            for f in fields(flags)
        ]
        own_hints = get_type_hints(command, include_extras=True)
        own = [
            p.replace(annotation=own_hints[p.name], kind=inspect.Parameter.KEYWORD_ONLY)
            for p in inspect.signature(command).parameters.values()
            if p.name != "flags"
        ]

        @wraps(command)
        def wrapper(**values: Any) -> None:
            mine = {p.name: values[p.name] for p in own}
            command(flags=flags(**{p.name: values[p.name] for p in shared}), **mine)

        wrapper.__signature__ = inspect.Signature(own + shared)  # type: ignore[attr-defined]
        wrapper.__annotations__ = {p.name: p.annotation for p in own + shared}
        return wrapper

    return decorate


def check_help() -> str:
    """Return the grammar of checks for `--help`, one entry for each kind, 80 columns wide."""
    width = max(len(form) for form, _ in CHECK_KINDS.values()) + 2
    entries = [
        fill(text, 78, initial_indent=f"  {form:<{width}}", subsequent_indent=" " * (width + 2))
        for form, text in CHECK_KINDS.values()
    ]
    return "\n".join(["Checks (docs/checks.md):", *entries])
