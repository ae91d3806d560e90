"""Make a feedback chain from each record of a file, with a teacher model: `redraft generate chains`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self, Unpack

from redraft.chain import Chain, meta_of
from redraft.data.generate import ACCEPT_SCORE
from redraft.data.generate.chains import ChainCounts, ChainMaking
from redraft.data.generate.options import ChainFlags, ChainOptions
from redraft.errors import path_of
from redraft.jobs.counting import tell
from redraft.jobs.licences import clash, remark
from redraft.jobs.provenance import RunFile
from redraft.revision.keywords import ChainKeywords
from redraft.revision.prompts import wording_of
from redraft.revision.runs.answers import AnswerRun, FileResult
from redraft.revision.runs.plan import RunPlan
from redraft.revision.settings import Settings


@dataclass
class ChainRun(AnswerRun):
    """A run of `redraft generate chains`."""

    making: ChainMaking = field(default_factory=ChainMaking)  # how records become chains
    verb: str = "generate chains"
    summary: ChainCounts = field(default_factory=ChainCounts)
    options = ChainFlags
    must_pass = False

    @classmethod
    def of(cls, settings: Settings, source: str | Path, output: str | Path) -> Self:
        """Return a run with the given settings, or raise a UsageError."""
        values = settings.values
        making = ChainMaking.of(values.explicit, run_code=values.run_code)
        if not making.verify and wording_of(values.prompts).scores and values.accept_score is None:
            settings = settings.over(accept_score=ACCEPT_SCORE)
        settings = replace(settings, stand_ins=making.stand_ins)
        plan = RunPlan.of(output, settings, journal=True)
        if values.run_code and making.verify != "code":
            plan.say("--run-code does nothing without --verify code.")
        asked = making.gold or values.mode == "prompted" or not (values.check or making.verify)
        weak = (values.critic or settings.get("model") or "default") == "default"
        if asked and weak and values.max_revisions != 0:
            plan.say("The default model is too small to criticise well. Better: --critic REF or --model REF")
        return cls(settings, path_of(source), plan, limit=values.limit, making=making)

    def prepare(self) -> None:
        """If the first record contains checks, warn that the records' checks are not used."""
        super().prepare()
        first = next(self.records(), None)
        if first is not None and "checks" in meta_of(first, "source"):
            self.plan.say("The `checks` of the records are not used. To check all answers: --check.")

    def options_of(self, record: Chain) -> Mapping[str, Any]:
        """Return the options that depend on the record."""
        return self.making.options(record)

    async def finish(self, chain: Chain, record: Chain) -> Chain:
        """Clean up a chain. Record in `meta` which texts quote the gold answer, and which are refusals."""
        return self.making.finished(chain, record)

    def end(self) -> None:
        """Warn, even in a quiet run, if the records' licences differ or forbid commercial use."""
        if clash(sources := sorted(self.summary.sources)):
            self.plan.say(remark(sources))

    def rows(self) -> list[tuple[str, str]]:
        """If the output took several runs, return a summary row with the total cost of all these runs."""
        paid = RunFile(self.plan.out).paid()
        return [("paid", paid)] if paid else []


def generate_chains(source: str | Path, output: str | Path, **options: Unpack[ChainKeywords]) -> FileResult:
    """Make feedback chains with a teacher. Same as `redraft generate chains`, with the same files.

    The same call or command resumes an unfinished run. The function works in notebooks too.

    Args:
        source: A file of records, of any known shape.
        output: The file to write the chains to.
        **options: See docs/options.md; all are optional. `model`, the teacher, is a model reference.

    Raises:
        UsageError: An option is unknown, or two options contradict each other.
        RecordError: The records cannot be read, or lack a field that an option needs.
        OutputError: `output` cannot be written, is in use, or was made with other settings.
        EngineError, CheckError: The run failed. Finished chains are in `output`.
        KeyboardInterrupt: Ctrl-C ended the run. Finished chains are in `output`.
    """
    return _run_of(source, output, options).run()


async def agenerate_chains(
    source: str | Path, output: str | Path, **options: Unpack[ChainKeywords]
) -> FileResult:
    """Do the same as `generate_chains`, in the running event loop."""
    return await _run_of(source, output, options).arun()


def _run_of(source: str | Path, output: str | Path, options: Mapping[str, Any]) -> ChainRun:
    return ChainRun.of(Settings.read(ChainOptions, options, tell=tell), source, output)
