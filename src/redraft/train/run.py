"""Do a whole training run, from settings to an output folder.

`get_ready` loads the tokenizer, prepares the data, loads the model and makes the loop, so that mistakes are
found before the first step. `Ready.train` trains, and saves the trained model. The caller finds the model and
the cache folder, and writes a record of the run.

A trained model is written into a temporary folder and moved to the output folder, `config.json` last.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import PreTrainedTokenizerBase, TrainingArguments
from transformers.utils import logging

from redraft.chain.read.files import stem_of
from redraft.engines.load import DEFAULTS
from redraft.errors import OutputError, UsageError
from redraft.jobs.counting import counted
from redraft.jobs.files import lock, sync, sync_folder
from redraft.jobs.hub import fetch_card
from redraft.jobs.licences import UNKNOWN, Source, remark
from redraft.jobs.lines import parse_line, read_lines
from redraft.jobs.machine import all_cores
from redraft.jobs.provenance import contents_of, licences_beside
from redraft.train import LOG, checkpoints
from redraft.train.batches import Data, Order, check_enough_rows, collated
from redraft.train.checkpoints import SavedCheckpoint
from redraft.train.guards import is_out_of_memory, out_of_memory
from redraft.train.load import default_method, load_tokenizer, skeleton, weights_dtype
from redraft.train.loop import Loop
from redraft.train.options import LossOptions, RunOptions, SftOptions
from redraft.train.prepare import ABOUT, TOKENS, Prepared, prepare
from redraft.train.processes import Say, check_same_start, gathered, leads, ranks
from redraft.train.trained import training_arguments
from redraft.train.verb import Verb, verb_of
from redraft.weights.card import CARD, bases_of, card_text, is_known, is_ours, model_name, sources_of

_RESULT = re.compile(r"((adapter|generation)_)?config\.json|(adapter_)?model.*\.safetensors(\.index\.json)?")
"""Matches the names of a trained model's or adapter's files."""


def check_output(output: Path, *refs: str) -> None:
    """Raise `UsageError` if the output would replace a model or adapter that the run starts from."""
    for part in itertools.chain.from_iterable(map(_parts, refs)):
        path, whole = part.expanduser().resolve(), output.resolve()
        inside = path.relative_to(whole).parts if path.is_relative_to(whole) else None
        if inside is not None and (not inside or checkpoints.NAME.fullmatch(inside[0])):
            message = f"training starts from {part}, which the output {output} would replace."
            raise UsageError(message, hint="Name another --output_dir.")


def _parts(ref: str) -> Iterator[Path]:
    while "+" in ref and not Path(ref).expanduser().exists():
        ref, _, last = ref.rpartition("+")
        yield Path(last)
    if ref not in DEFAULTS:  # these names always mean the shipped model
        yield Path(ref)


def save(loop: Loop, checkpoint: Path | None = None) -> None:
    """Save the trained model or adapter, from memory or `checkpoint`, into the output folder."""
    output = loop.folder
    aside = output / ".saving-result"
    try:
        if loop.args.should_save:
            shutil.rmtree(aside, ignore_errors=True)  # left by a run that died while saving
            aside.mkdir()  # fails on a planted link
        if checkpoint is None:
            loop.trained.save_model(aside)
        if not loop.args.should_save:
            return
        if checkpoint is not None:  # copy its model, without the optimizer and other states
            for path in results_in(checkpoint):
                shutil.copyfile(path, aside / path.name)
            loop.trained.save_texts(aside)
        for path in aside.iterdir():
            sync(path)
        remove_result(output)
        for path in sorted(aside.iterdir(), key=_decides):
            if path.name != CARD or not (output / CARD).exists():  # a remaining card is the user's own
                path.replace(output / path.name)
        shutil.rmtree(aside)
        sync_folder(output)
    except (OSError, SafetensorError) as error:
        raise checkpoints.unwritable(output, error) from error


@contextmanager
def alone(output: Path) -> Iterator[None]:
    """Lock an output folder for a `with` block."""
    handle = os.open(output, os.O_RDONLY)
    try:
        if not lock(handle):
            hint = "Wait for it to end, or name another --output_dir."
            raise OutputError(f"another run is writing to {output}.", hint=hint)
        yield
    finally:
        os.close(handle)


def results_in(folder: Path) -> list[Path]:
    """Return the files of a trained model or adapter in a folder."""
    return [each for each in folder.iterdir() if _RESULT.fullmatch(each.name)]


def _decides(path: Path) -> bool:
    return path.name in {"config.json", "adapter_config.json"}


def remove_result(output: Path) -> None:
    """Delete an earlier model or adapter, so that an old adapter is not used with new weights."""
    try:
        card = [output / CARD] if (output / CARD).is_file() and is_ours(output) else []
        for path in sorted([*results_in(output), *card], key=_decides, reverse=True):
            if path.is_file():
                path.unlink()
    except OSError as error:
        raise checkpoints.unwritable(output, error) from error


def licensed(
    title: str, model: str, prepared: Prepared, paths: Sequence[str]
) -> tuple[tuple[Source, ...], str | None]:
    """Return a trained model's base and data as sources, and the model card (None if no licence is known)."""
    path = Path(model).expanduser()
    here = path.is_dir()
    folder = path if here else fetch_card(model)
    name = model_name(path) if here else model
    base = sources_of(folder, "base", name) if folder else (Source("base", name),)
    sources = tuple(dict.fromkeys((*base, *_data(prepared, paths))))
    if not is_known(sources):
        return sources, None
    return sources, card_text(title, sources, bases_of(path) if here else [model])


def _data(prepared: Prepared, paths: Sequence[str]) -> Iterator[Source]:
    beside = {stem_of(Path(path)): licences_beside(Path(path)) for path in paths}
    for name, licences in sorted(prepared.report.origins.items()):
        for licence in sorted(licences):
            noted = beside.get(name, []) if licence == UNKNOWN else []  # not every format can state a licence
            yield from (Source("data", name, each) for each in noted or [licence])


def choose_method(own: RunOptions, model: str, *, say: Say) -> bool:
    """Return whether to train an adapter. If `own.lora` is None, the size of the GPU memory decides."""
    if own.lora is not None:
        return own.lora
    parameters = sum(each.numel() for each in skeleton(model).parameters())
    gpu_bytes = None
    if torch.cuda.is_available() and not own.use_cpu:
        gpu_bytes = int(torch.cuda.get_device_properties(0).total_memory) * (ranks() if own.fsdp_words else 1)
    lora, why = default_method(parameters, gpu_bytes)
    what, other = ("an adapter", "all weights") if lora else ("all weights", "an adapter")
    say(f"training {what}, because {why} (--lora {not lora} trains {other}).")
    return lora


def settled(own: RunOptions, *, lora: bool, gpu: bool) -> RunOptions:
    """Replace `auto` settings by the values for this machine, so that another machine can resume the run."""
    dtype: Any = str(weights_dtype(own.dtype, lora=lora, gpu=gpu)).removeprefix("torch.")
    return own.model_copy(update={"lora": lora, "dtype": dtype})


def prepare_all(
    paths: Sequence[str],
    own: RunOptions,
    tokenizer: PreTrainedTokenizerBase,
    verb: Verb[Any],
    cache: Path,
    *,
    say: Say,
) -> Prepared:
    """Prepare the data in `paths` with the settings `own`. `say` is called with lines of progress."""
    files, folder = list(map(Path, paths)), Path(own.cache_dir) if own.cache_dir else cache
    return prepare(files, verb.encoder(own, tokenizer), folder, workers=own.workers or all_cores(), say=say)


def rows_of(
    prepared: Prepared,
    own: RunOptions,
    args: TrainingArguments,
    verb: Verb[Any],
    *,
    pad: int | None,
    size: int | None = None,
) -> Data:
    """Return prepared data as batches of rows: padded with `pad`, or joined if `pad` is None."""
    rows = verb.rows(prepared.lengths, own)
    batch = size or args.train_batch_size
    order = Order(len(rows), batch, seed=args.seed, rank=args.process_index, ranks=args.world_size)
    return Data(prepared, rows, order, partial(collated, pad=pad, pairs=rows.kind == "pair"))


def eval_rows(
    own: RunOptions,
    tokenizer: PreTrainedTokenizerBase,
    args: TrainingArguments,
    verb: Verb[Any],
    cache: Path,
    *,
    pad: int | None,
    say: Say,
) -> Data | None:
    """Return the data to evaluate on, or None if there is no evaluation."""
    if not isinstance(own, LossOptions):
        return None
    if own.eval_data_path and (own.eval_strategy != "no" or verb.measures):
        prepared = prepare_all(own.eval_data_path, own, tokenizer, verb, cache, say=say)
        return rows_of(prepared, own, args, verb, pad=pad, size=args.eval_batch_size)
    if own.eval_data_path:
        say("--eval_data_path is not used. To evaluate, add --eval_strategy steps or --eval_strategy epoch.")
    if own.eval_strategy == "no":
        return None
    hint = "--eval_data_path FILE, or --eval_strategy no"
    raise UsageError(f"--eval_strategy {own.eval_strategy} needs data to evaluate on.", hint=hint)


_ELSEWHERE = {
    *("data_path", "eval_data_path", "per_device_train_batch_size", "gradient_accumulation_steps"),
    *("gguf", "preview", "estimate", "price_per_hour", "dry_run", "quiet"),
    *("output_dir", "overwrite_output_dir", "cache_dir", "workers"),
    *("save_strategy", "save_steps", "save_total_limit", "logging_steps", "report_to", "run_name"),
    *("eval_strategy", "eval_steps", "per_device_eval_batch_size"),
    *("use_cpu", "tf32", "fsdp", "fsdp_transformer_layer_cls_to_wrap", "activation_checkpointing"),
    *("torch_compile", "divergence_steps", "max_steps", "num_train_epochs"),
}
"""Settings that do not affect the trained weights, or that `Ready.config` includes in another form."""


@dataclass(frozen=True)
class Ready:
    """A prepared run, before its first step."""

    own: RunOptions
    base: str  # the base model: a folder, or org/name on the hub
    args: TrainingArguments
    loop: Loop
    prepared: Prepared
    data: Data
    verb: Verb[Any]
    checkpoint: SavedCheckpoint | None  # the checkpoint to resume from, or None
    sources: tuple[Source, ...] = ()  # the sources of the result, with licences

    @property
    def method(self) -> str:
        """A description of the weights that are trained."""
        own = self.own
        if not own.lora:
            return f"all weights in {own.dtype}"
        return f"an adapter of rank {own.lora_r} on weights in {own.dtype}"

    @property
    def rows_a_step(self) -> int:
        """The number of rows per optimizer step, over all processes."""
        return int(self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size)

    @property
    def is_complete(self) -> bool:
        """Whether the checkpoint to resume from was saved after the last step."""
        return self.checkpoint is not None and self.checkpoint.step >= self.loop.steps

    @property
    def writes(self) -> bool:
        """Whether the run trains on rollouts, which the model writes during the run."""
        return not isinstance(self.loop.data, Data)

    @cached_property
    def tokens_sha256(self) -> str:
        """The SHA-256 of the tokens to train on."""
        return str(json.loads((self.prepared.folder / ABOUT).read_bytes())["files"][TOKENS])

    @cached_property
    def config(self) -> dict[str, Any]:
        """Settings and inputs that determine the trained weights. Files are identified by SHA-256."""
        ours = {name: each for name, each in vars(self.own).items() if name not in _ELSEWHERE}
        return {
            **ours,
            **{name: getattr(self.args, name) for name in ("learning_rate", "bf16")},
            "method": self.method,
            "rows_a_step": self.rows_a_step,
            "max_steps": self.loop.steps,
            "tokens_sha256": self.tokens_sha256,
            **contents_of({**ours, "model_name_or_path": self.base}),
        }

    @property
    def replaces(self) -> bool:
        """Whether an earlier run left files but no usable checkpoint. False with `--overwrite_output_dir`."""
        if self.checkpoint or self.own.overwrite_output_dir:
            return False
        output = self.loop.folder
        log = output / LOG
        begun = log.is_file() and log.stat().st_size > 0  # a run without a step leaves an empty log
        return begun or bool(results_in(output)) or bool(checkpoints.checkpoints(output))

    @property
    def plan(self) -> str:
        """The plan of the run as a line of text."""
        rows = self.data.rows
        whole, row = counted(len(rows), self.verb.row), "answer" if self.writes else self.verb.row
        records = counted(self.prepared.report.examples, "record")
        packed = f"{records} packed into {whole}, {rows.efficiency:.1%} full"
        return (
            f"{counted(self.loop.steps, 'step')} of {counted(self.rows_a_step, row)} "
            f"({packed if rows.kind == 'packed' else f'of {whole}'}), learning rate "
            f"{self.args.learning_rate:g}, {self.method}"
        )

    @property
    def about(self) -> str:
        """A paragraph on the training, for the model card."""
        packed = self.data.rows.kind == "packed"  # the plan then has the records
        of = "" if packed else f" on {counted(self.prepared.report.examples, 'record')}"
        scores = "This is a reward model: it rates an answer with a number. " if self.verb.scores else ""
        return f"\n{scores}`redraft train {self.own.verb}` trained it{of}: {self.plan}.\n"

    def lines(self) -> list[str]:
        """Return the plan of the run, and remarks on the data, as lines of text."""
        lines = [*self.prepared.report.lines(self.verb.marked[0]), self.plan]
        if is_known(self.sources) and (licences := remark(self.sources)):
            lines.append(licences)
        if self.checkpoint is not None:
            done = ": all steps are done" if self.is_complete else ""
            lines.append(f"the run resumes from {self.checkpoint.folder}{done}")
        elif self.replaces:
            logged = [*map(parse_line, read_lines(self.loop.folder / LOG))]
            upto = f", so steps 1 to {(logged[-1] or {}).get('step')} are repeated" if logged else ""
            lines.append(f"{self.loop.folder} has no checkpoint{upto}.")
        return lines

    def train(self, begin: Callable[[], object] | None = None) -> int:
        """Train, and save the model unless a signal stopped the run. `begin` is called before any step."""
        with alone(self.loop.folder) if self.args.should_save else nullcontext():
            step = self.checkpoint.step if self.checkpoint else 0
            check_same_start(gathered((step, self.tokens_sha256[:12], len(self.data.rows))))
            if self.own.overwrite_output_dir and self.args.should_save:
                checkpoints.remove_all(self.loop.folder)
                remove_result(self.loop.folder)
            if begin:
                begin()
            if self.checkpoint and self.is_complete:
                if not (shared := self.loop.trained.fsdp):
                    self.loop.trained.load_model(self.checkpoint.folder)
                save(self.loop, self.checkpoint.folder if shared else None)
                return step
            done = self.steps_alone()
            if not self.stopped_early(done):
                with self.loop.signals:  # schedulers repeat signals, and saving is quick
                    save(self.loop)
            return done

    def stopped_early(self, done: int) -> bool:
        """Return whether a signal stopped the run before its last step."""
        return self.loop.stopped is not None and done < self.loop.steps

    def steps_alone(self) -> int:
        """Train without saving the trained model, and return the number of steps done."""
        try:
            return self.loop.run(self.checkpoint)
        except (OSError, SafetensorError) as error:
            raise checkpoints.unwritable(self.loop.folder, error) from error
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise out_of_memory(error, self.own, self.loop.counts.longest) from error


def get_ready(asked: RunOptions, model: str, cache: Path, *, say: Say, warn: Say | None = None) -> Ready:
    """Prepare a run up to its first step. `warn` is called with lines that even a quiet run shows."""
    tell, alarm = (say, warn or say) if leads() else (lambda _: None,) * 2
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    verb = verb_of(type(asked))
    lora = choose_method(asked, model, say=tell)
    args = training_arguments(asked, lora=lora, say=tell)
    own = settled(asked, lora=lora, gpu=not args.use_cpu)
    verb.check(own, model)
    output = Path(str(args.output_dir))
    check_output(output, model, own.model_name_or_path)
    checkpoint, remarks = (None, []) if own.overwrite_output_dir else checkpoints.newest(output)
    for line in remarks:
        alarm(line)
    tokenizer = load_tokenizer(model, pad_token=own.pad_token, apart=verb.scores, say=tell)
    prepared = prepare_all(own.data_path, own, tokenizer, verb, cache, say=say)
    step = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
    packs = isinstance(own, SftOptions) and own.packing and len(prepared.lengths) >= step
    if packs and len(verb.rows(prepared.lengths, own)) < step:
        own = own.model_copy(update={"packing": False})
        tell(f"each row has one record (--packing False): packed rows would not fill a step of {step} rows.")
    trained, joins = verb.model(own, model, tokenizer, say=tell)
    pad = None if joins else int(tokenizer.pad_token_id)
    data = rows_of(prepared, own, args, verb, pad=pad)
    eval_data = eval_rows(own, tokenizer, args, verb, cache, pad=pad, say=say)
    source, around = verb.source(trained, data, own, args, tokenizer)
    if isinstance(source, Data):
        check_enough_rows(data.rows, args.train_batch_size, args.gradient_accumulation_steps, args.world_size)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = f"{output} cannot be created: {error.strerror}."
        raise OutputError(why, hint="--output_dir FOLDER") from None
    loop = Loop(
        trained,
        args,
        source,
        eval_data,
        around=around,
        tokenizer=tokenizer,
        divergence_steps=own.divergence_steps if isinstance(own, LossOptions) else 0,
        quiet=own.quiet,
    )
    sources, loop.trained.card = licensed(output.name, model, prepared, own.data_path)
    ready = Ready(own, model, args, loop, prepared, data, verb, checkpoint, sources)
    if loop.trained.card:
        loop.trained.card += ready.about
    return ready
