"""redraft: answers that pass your checks, from the model that you run.

The public names are imported on first use, so that `import redraft` is fast.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing's own is not needed for that, and importing it takes 5 ms
if TYPE_CHECKING:
    from redraft.chain import Chain as Chain
    from redraft.chain import CheckResult as CheckResult
    from redraft.chain import Feedback as Feedback
    from redraft.chain import Prompt as Prompt
    from redraft.chain import Step as Step
    from redraft.chain import Usage as Usage
    from redraft.chain import read_jsonl as read_jsonl
    from redraft.chain import write_jsonl as write_jsonl
    from redraft.checks.base import Check as Check
    from redraft.checks.base import Outcome as Outcome
    from redraft.checks.base import failed as failed
    from redraft.checks.base import passed as passed
    from redraft.checks.function import demands as demands
    from redraft.checks.parse import parse_check as parse_check
    from redraft.checks.tools import tool_check as tool_check
    from redraft.data.clean import clean as clean
    from redraft.data.dedupe import dedupe as dedupe
    from redraft.data.generate.chain_run import agenerate_chains as agenerate_chains
    from redraft.data.generate.chain_run import generate_chains as generate_chains
    from redraft.data.generate.instructions.run import agenerate_instructions as agenerate_instructions
    from redraft.data.generate.instructions.run import generate_instructions as generate_instructions
    from redraft.engines.base import Engine as Engine
    from redraft.engines.base import Price as Price
    from redraft.engines.base import Sampling as Sampling
    from redraft.engines.hf.engine import HfEngine as HfEngine
    from redraft.engines.llamacpp.engine import LlamaCppEngine as LlamaCppEngine
    from redraft.engines.load import load_engine as load_engine
    from redraft.engines.remote.engine import RemoteEngine as RemoteEngine
    from redraft.engines.scripted import ScriptedEngine as ScriptedEngine
    from redraft.engines.steering.form import Form as Form
    from redraft.errors import RedraftError as RedraftError
    from redraft.evaluation.diagnosis.diagnose import diagnose as diagnose
    from redraft.evaluation.judging.run import ajudge as ajudge
    from redraft.evaluation.judging.run import judge as judge
    from redraft.evaluation.tasks.run import aevaluate_file as aevaluate_file
    from redraft.evaluation.tasks.run import evaluate as evaluate
    from redraft.evaluation.tasks.run import evaluate_file as evaluate_file
    from redraft.revision.api import apatch as apatch
    from redraft.revision.api import arevise as arevise
    from redraft.revision.api import patch as patch
    from redraft.revision.api import revise as revise
    from redraft.revision.api import stream as stream
    from redraft.revision.cancel import CancelToken as CancelToken
    from redraft.revision.ops import DraftDone as DraftDone
    from redraft.revision.ops import Event as Event
    from redraft.revision.ops import Finished as Finished
    from redraft.revision.ops import Interrupted as Interrupted
    from redraft.revision.ops import Progress as Progress
    from redraft.revision.ops import StepDone as StepDone
    from redraft.revision.ops import Text as Text
    from redraft.revision.ops import Thought as Thought
    from redraft.revision.options import Budget as Budget
    from redraft.revision.runs.answers import aanswer_file as aanswer_file
    from redraft.revision.runs.answers import answer_file as answer_file
    from redraft.revision.settings import recipe as recipe
    from redraft.train.api import train_ppo as train_ppo
    from redraft.train.api import train_reward as train_reward
    from redraft.train.api import train_sft as train_sft

__version__ = "0.1.0"

_HOMES = {
    "redraft.chain": "Chain CheckResult Feedback Prompt Step Usage read_jsonl write_jsonl",
    "redraft.data.clean": "clean",
    "redraft.data.dedupe": "dedupe",
    "redraft.engines.base": "Engine Price Sampling",
    "redraft.engines.hf.engine": "HfEngine",
    "redraft.engines.llamacpp.engine": "LlamaCppEngine",
    "redraft.engines.load": "load_engine",
    "redraft.engines.remote.engine": "RemoteEngine",
    "redraft.engines.scripted": "ScriptedEngine",
    "redraft.errors": "RedraftError",
    "redraft.evaluation.diagnosis.diagnose": "diagnose",
    "redraft.evaluation.judging.run": "ajudge judge",
    "redraft.evaluation.tasks.run": "aevaluate_file evaluate evaluate_file",
    "redraft.data.generate.chain_run": "agenerate_chains generate_chains",
    "redraft.data.generate.instructions.run": "agenerate_instructions generate_instructions",
    "redraft.revision.api": "apatch arevise patch revise stream",
    "redraft.revision.cancel": "CancelToken",
    "redraft.revision.ops": "DraftDone Event Finished Interrupted Progress StepDone Text Thought",
    "redraft.revision.options": "Budget",
    "redraft.revision.runs.answers": "aanswer_file answer_file",
    "redraft.revision.settings": "recipe",
    "redraft.engines.steering.form": "Form",
    "redraft.train.api": "train_ppo train_reward train_sft",
    "redraft.checks.base": "Check Outcome failed passed",
    "redraft.checks.function": "demands",
    "redraft.checks.tools": "tool_check",
    "redraft.checks.parse": "parse_check",
}
_EXTRAS = {
    "train": "HfEngine train_ppo train_reward train_sft",
    "data": "dedupe",
    "eval": "aevaluate_file diagnose evaluate evaluate_file",
    "generate": "agenerate_instructions generate_instructions",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}
_EXTRA_OF = {name: extra for extra, names in _EXTRAS.items() for name in names.split()}

# `HfEngine` needs the extra 'train', and `from redraft import *` should not.
__all__ = ["__version__", *sorted(_HOME_OF.keys() - {"HfEngine"})]


if not TYPE_CHECKING:  # it would hide wrong names from type checkers

    def __getattr__(name: str) -> object:
        if name not in _HOME_OF:
            raise AttributeError(f"module 'redraft' has no attribute {name!r}")
        from importlib import import_module

        try:
            found = getattr(import_module(_HOME_OF[name]), name)
        except ImportError as error:
            if name not in _EXTRA_OF or (error.name or "").startswith("redraft"):
                raise
            stand_in: object = import_module("redraft.errors").absent(name, _EXTRA_OF[name])
            return stand_in
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    return sorted(["__version__", *_HOME_OF])
