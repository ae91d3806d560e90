"""Read the options of a command, and open the models that the options name.

Flags, recipes and keyword arguments all become `Settings`, which makes the arguments of `revise` and opens
the models.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self, cast

from redraft.chain.documents import recipe_of
from redraft.checks.base import Check, schema_of
from redraft.checks.groups import Auto
from redraft.checks.parse import parse_checks
from redraft.engines.base import Engine
from redraft.engines.load import check_files, has_openvino, load_engine
from redraft.engines.retry import Patience
from redraft.engines.scripted import ScriptedEngine
from redraft.errors import UsageError, shown
from redraft.jobs.machine import instructions, many_streams
from redraft.options import Flags, MachineOptions, OptionModel, PlainOptions, ServerOptions
from redraft.revision.api import Role
from redraft.revision.keywords import RevisionKeywords
from redraft.revision.options import RevisionOptions, check_engines, check_options, patience_of
from redraft.revision.promise import Watch, breaks, promise_of
from redraft.revision.watch import forms_of

if TYPE_CHECKING:
    from redraft.engines.remote.batch import Batches  # it needs httpx


def recipe(name: str | Path, checks: Sequence[str | Check] | None = None) -> RevisionKeywords:
    """Return the options of a recipe as arguments: `redraft.revise("…", **redraft.recipe("way.yaml"))`.

    Args:
        name: The path of a YAML file, or the name of a recipe that redraft ships.
        checks: Checks to use instead of the recipe's. If the recipe promises a share of right answers,
            redraft warns if it was promised for other types of checks.

    Raises:
        UsageError: There is no such recipe, or an option is wrong.
    """
    warn = logging.getLogger("redraft").warning
    settings = Settings.read(Flags, {"recipe": name}, tell=warn)
    if settings.watch and (strange := settings.watch.nothing_for(checks or ())):
        warn(strange + f" Give them here: redraft.recipe({str(name)!r}, checks)" * (not checks))
    arguments = settings.arguments()
    return arguments if checks is None else {**arguments, "checks": checks}


@dataclass(frozen=True)
class Settings:
    """The values of options, from flags, recipe and config file. Values without a default may be missing."""

    values: Any
    # Placeholder values of options that each record sets, so that all options can be checked together.
    stand_ins: Mapping[str, Any] = field(default_factory=dict)
    # Why llama.cpp runs a GGUF file even for many streams. If empty, the checks decide.
    llamacpp_because: str = ""
    judge_was_named: bool = False  # a flag or a recipe names the judge, so the judge must be asked
    recipe: str = ""
    watch: Watch | None = None  # watches whether the recipe's promise is kept
    unwatched: bool = False  # the recipe has a promise, but no check in use shows whether it is kept
    tell: Callable[[str], None] = lambda _: None

    @classmethod
    def read(
        cls,
        group: type[OptionModel],
        given: Mapping[str, Any],
        *,
        below: Mapping[str, Any] = MappingProxyType({}),
        table: str = "",
        tell: Callable[[str], None] = lambda _: None,
    ) -> Self:
        """Read settings from `given`, its recipe, and `below`. In a conflict, the earlier source counts.

        `table` is as in `OptionModel.read`.
        """
        given = dict(given)
        name = given.pop("recipe", None)
        if not isinstance(name, str | Path | None):
            hint = "It should be the name of a recipe, or the path of a YAML file."
            raise UsageError(f"recipe is {shown(name)}.", hint=hint)
        name, watch, promise = str(name or ""), None, None
        asked = group.read(given, table=table).explicit
        if name:
            path, document = recipe_of(name, group.RECIPES)
            promise = promise_of(document, path)
            own = (group.IN_RECIPES or group).read_file(document, where=f"{path}: ").explicit
            if promise and (why := [*breaks(promise, own, asked)]):
                tell(f"the promise of {path} does not apply here: {'; '.join(why)}.")
                promise = None
            watch = Watch(promise, name) if promise and promise.watched else None
            asked = {**own, **asked}
        if asked.get("batch"):  # a default of `parallel` is not meant for batches
            below = {key: value for key, value in below.items() if key != "parallel"}
        values = group.model_construct(**{**group.OWN_DEFAULTS, **below, **asked})
        of_recipe: Any = {"recipe": name, "watch": watch, "unwatched": bool(promise and not watch)}
        return cls(values, judge_was_named="judge" in asked, tell=tell, **of_recipe)

    def get(self, name: str) -> Any:
        """Return a value, or None if it was not given."""
        return getattr(self.values, name, None) if name in self.values.model_fields_set else None

    def over(self, **values: Any) -> Self:
        """Return a copy with `values` replaced. The new values are not checked."""
        return replace(self, values=self.values.model_copy(update=values))

    def options(self) -> RevisionOptions:
        """Check the values, and return the options of `arevise`."""
        return check_options({**self.arguments(), **self.stand_ins})

    def check(self, *, files: bool = True) -> None:
        """Raise `RedraftError` for faults found before loading. With `files`, model files must exist."""
        options = self.options()
        parse_checks(options.checks, judge=ScriptedEngine([""]) if options.judge else None)
        for reference in self.references().values() if files else ():
            check_files(reference)

    def arguments(self) -> RevisionKeywords:
        """Return the arguments of `arevise`. Models are references, such as `default`, not open engines."""
        flags: Flags = self.values
        given = {name: value for name, value in flags.explicit.items() if name in PlainOptions.model_fields}
        if flags.check:
            given["checks"] = flags.check if flags.judge else parse_checks(flags.check)
        given["budget"] = {name: getattr(flags, f"budget_{name}") for name in ("tokens", "seconds", "usd")}
        given["price"] = flags.price
        return cast("RevisionKeywords", given | self.references())

    def waiting(
        self,
        *,
        usual: float = 0.0,
        limit_seconds: float | None = None,
        tell: Callable[[str], None] | None = None,
    ) -> Patience:
        """Return the waiting times and rate limits for servers.

        By default, wait `usual` seconds for a server that is down, and at most `limit_seconds` if a server
        asks to wait. `tell` is called with the reason when a wait begins, and with "" when the wait ends.
        """
        server: ServerOptions = self.values
        rates = {"rpm": server.rpm, "tpm": server.tpm}
        known: Any = {name: rate for name, rate in rates.items() if rate is not None}
        if tell:
            known["tell"] = tell
        if limit_seconds is not None:
            known["longest_asked"] = min(limit_seconds, Patience.longest_asked)
        return patience_of(server, usual=usual, **known)

    def references(self) -> dict[Role, str]:
        """Return the references of the models to open, by role. A judge without any task is left out."""
        flags = self.values
        judged = self.judge_was_named
        if isinstance(flags, Flags) and not judged:
            idle = RevisionOptions.model_construct(mode=flags.mode, drafts=flags.drafts, checks=flags.check)
            judged = idle.asks_judge
        roles: tuple[Role, ...] = ("critic", "judge") if judged else ("critic",)
        others: dict[Role, str] = {role: self.get(role) for role in roles if self.get(role)}
        return {"model": "default" if self.get("model") is None else self.get("model"), **others}

    async def load(
        self,
        stack: AsyncExitStack,
        role: Role,
        reference: str,
        *,
        parallel: int = 1,
        patience: Patience | None = None,
        batches: Batches | None = None,
        opens: Callable[..., Awaitable[Engine]] = load_engine,
    ) -> Engine:
        """Open one model. Options such as `ctx` (`MachineOptions`) apply only to the writer's model.

        If `engine` is not set and `parallel` is at least `many_streams()`, OpenVINO runs a GGUF file, unless
        checks steer the model.
        """
        machine, reason, many = dict[str, Any](), "", parallel >= many_streams(instructions())
        if told := role == "model" and many and has_openvino() and not self.get("engine"):
            reason = self.llamacpp_because or await self._steering()
        if role == "model":
            machine = {name: self.get(name) for name in MachineOptions.model_fields}
        machine |= {"parallel": parallel, "fast": many and not reason}
        engine = await opens(reference, **machine, patience=patience, batches=batches)
        stack.push_async_callback(engine.aclose)
        computes = engine.info.engine if told and not self.get("quiet") else ""
        if computes == "openvino":
            self.tell(f"{reference} runs on OpenVINO, for speed. To use llama.cpp, add --engine llamacpp.")
        elif computes == "llamacpp" and reason:
            self.tell(f"{reference} runs on llama.cpp: {reason}. Faster, but unsteered: --engine openvino")
        return engine

    async def _steering(self) -> str:
        if self.get("steer") is False or not (self.get("check") or self.stand_ins.get("checks")):
            return ""
        checks = parse_checks(self.options().checks, judge=ScriptedEngine([""]))
        steer = any(isinstance(check, Auto) for check in checks) or await forms_of(checks)
        return "checks steer it" if steer and not any(map(schema_of, checks)) else ""

    async def opened(self, stack: AsyncExitStack, **how: Any) -> RevisionOptions:
        """Check all values, open the models by `load(…, **how)`, and return the options with the engines."""
        options = self.options()
        named = self.references().items()
        opened: dict[str, Any] = {role: await self.load(stack, role, ref, **how) for role, ref in named}
        options = options.model_copy(update=opened)
        check_engines(options)
        return options
