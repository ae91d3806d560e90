"""What a run will do: stages, time, disk and money, and what is refused before the first stage.

Hours, sizes and tokens are those that the recipe says; money is their tokens at the price of the stage's
model, which is known for models with a price in the config file or in `price`. Local models cost nothing.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isinf
from pathlib import Path
from typing import Any

from redraft.chain import Usage
from redraft.data.merge import read_recipe, recipe_path
from redraft.engines.config import load_config
from redraft.engines.load import parse_reference
from redraft.engines.price import Price, price_of
from redraft.errors import OutputError, RedraftError, UsageError
from redraft.jobs.licences import Source, forbids_commerce
from redraft.jobs.limits import STOPPED
from redraft.jobs.provenance import licences_beside
from redraft.jobs.stores import here, url_of
from redraft.train.systems.ledger import Kind, State
from redraft.train.systems.recipe import Stage, System

FREE = Price(0.0, 0.0)


class MoneyError(RedraftError):
    """The plan costs more than the limit."""

    exit_status = STOPPED


@dataclass(frozen=True)
class Row:
    """A stage of a plan."""

    stage: Stage
    state: State

    @property
    def usd(self) -> float | None:
        """What its tokens cost; None if a server's price is not known."""
        needs, found = self.stage.needs, price(self.stage.options)
        if not needs.prompts + needs.new:
            return 0.0
        usage = Usage(prompt_tokens=int(needs.prompts * 1e6), completion_tokens=int(needs.new * 1e6))
        return None if found is None else found.cost(usage)


def price(options: Mapping[str, Any]) -> Price | None:
    """Return the price of a stage's model: `FREE` if it runs here, None if it is not known."""
    if options.get("price"):
        return price_of(options["price"])
    models = options.get("model") or "default"
    ref, config = models if isinstance(models, str) else models[0], load_config()
    if known := config.prices.get(ref):
        return price_of(known)
    if "{" in ref or (named := parse_reference(ref)).kind != "remote":
        return FREE
    return price_of(config.price_for(named.target, named.selects or ""))


@dataclass(frozen=True)
class Plan:
    """The stages of a run. Those that are done take nothing."""

    rows: Sequence[Row]

    @property
    def ahead(self) -> list[Row]:
        """The stages that are not done."""
        return [row for row in self.rows if row.state.kind is not Kind.DONE]

    def lines(self) -> Iterator[str]:
        """Yield a line for each stage, and one for all."""
        width = max(len(row.stage.name) for row in self.rows)
        for row in self.rows:
            needs, done = row.stage.needs, row.state.kind is Kind.DONE
            figures = "" if done else _figures(needs.hours, needs.gb, row.usd)
            why = f" ({row.state.why})" if row.state.why else ""
            does = f"{row.state.kind.value}{why}: {row.stage.made}"
            yield f"{row.stage.name:{width}}  {does}  {figures}".rstrip()
        usd = [row.usd for row in self.ahead]
        total = None if None in usd else sum(each or 0.0 for each in usd)
        hours, gb = (sum(getattr(row.stage.needs, name) for row in self.ahead) for name in ("hours", "gb"))
        yield f"{'all':{width}}  {len(self.ahead)} of {len(self.rows)} stages  {_figures(hours, gb, total)}"

    def check(self, system: System, folder: Path, limit_usd: float | None) -> None:
        """Raise what can be told before the first stage.

        Raises:
            UsageError: A file is missing, an option is wrong, or a licence forbids what the recipe does.
            OutputError: The disk is too small.
            MoneyError: The stages cost more than `limit_usd`.
        """
        for row in self.ahead:
            row.stage.check()
        self._check_files(system)
        if system.commercial:
            self._check_licences(system)
        self._check_disk(folder)
        if limit_usd is not None:
            self._check_money(limit_usd)

    def _check_files(self, system: System) -> None:
        names = dict.fromkeys(name for row in self.ahead for name in row.stage.reads if name in system.files)
        local = {name: here(file) for name in names if url_of(file := system.files[name].path) is None}
        if missing := [name for name, path in local.items() if not path.exists()]:
            wanted = (system.files[name] for name in missing)
            hints = [f"{file.get}: save it as {file.path}" for file in wanted if file.get]
            files = (f"{system.files[name].path} (the recipe's file {name})" for name in missing)
            hint = "\n".join(hints) or "The recipe names it under 'files'."
            raise UsageError(f"there is no {' and no '.join(files)}.", hint=hint)
        for name, path in local.items():
            if path.is_file() and not path.stat().st_size:
                raise UsageError(f"{path}, the file {name} of the recipe, is empty.")

    def _check_licences(self, system: System) -> None:
        for row in self.ahead:
            for source in _declared(row.stage, system):
                if forbids_commerce(source.licence):
                    raise forbidden(row.stage, source)

    def _check_disk(self, folder: Path) -> None:
        wanted = sum(row.stage.needs.gb for row in self.ahead)
        there = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
        free = shutil.disk_usage(there).free / 1e9
        if wanted > free:
            raise OutputError(
                f"the stages need {wanted:,.1f} GB, and the disk of {folder} has {free:,.1f} GB free.",
                hint="Make room, or name a folder on another disk: -o DIR",
            )

    def _check_money(self, limit: float) -> None:
        if not limit > 0 or isinf(limit):
            raise UsageError(f"--limit-usd is {limit}.", hint="It should be a number of dollars above 0.")
        spent = 0.0
        for row in self.ahead:
            if row.usd is None:
                model = row.stage.options.get("model")
                raise UsageError(
                    f"stage {row.stage.name}: no price is known of {model}, and there is a limit of money.",
                    hint='Put it into the config file: [prices."HOST#MODEL"], or into its options: price',
                )
            spent += row.usd
            if spent > limit:
                message = f"stage {row.stage.name} would bring the cost to {spent:,.2f} USD: the limit is "
                raise MoneyError(
                    f"{message}{limit:,.2f}.", hint="Raise --limit-usd, or stop before it: --until STAGE"
                )


def forbidden(stage: Stage, source: Source) -> UsageError:
    """Return the error for a licence that forbids what a recipe does."""
    return UsageError(
        f"stage {stage.name} reads {source.name}, whose licence forbids commercial use: {source.licence}. "
        "The recipe says that its result is for that.",
        hint="Leave that data out, or say in the recipe: commercial: false",
    )


def _declared(stage: Stage, system: System) -> Iterator[Source]:
    """Yield the licences that are known before a stage runs: of its files, and of the parts of a mix."""
    for name in stage.reads:
        if file := system.files.get(name):
            licences = [file.licence] if file.licence else licences_beside(Path(file.path))
            yield from (Source("data", name, licence) for licence in licences)
    if stage.verb == "data merge":
        recipe = str(stage.options["recipe"])
        path = recipe_path(system.files[recipe[1:-1]].path if recipe[0] == "{" else recipe)[0]
        yield from (Source("data", part.name, part.licence) for part in read_recipe(path).parts)


def _figures(hours: float, gb: float, usd: float | None) -> str:
    time = f"{hours:,.1f} h" if hours >= 1 else f"{hours * 60:.0f} min" if hours else ""
    money = "price not known" if usd is None else f"{usd:,.2f} USD" if usd else ""
    return ", ".join(filter(None, [time, f"{gb:,.1f} GB" if gb else "", money]))
