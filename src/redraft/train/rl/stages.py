"""The stages of PPO: prompts, a policy, and rollout batches in place of given data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainingArguments

from redraft.counting import counted
from redraft.engines.remote.server import check_address
from redraft.errors import ModelError, UsageError
from redraft.formats.encoder import PromptEncoder
from redraft.formats.read.records import raw_records
from redraft.train.attention import use_segments
from redraft.train.batches import Batch, Data, Row, Rows, one_a_row, padded
from redraft.train.options import PpoOptions, layers_unfrozen, room, samples_each
from redraft.train.prepare import Prepared
from redraft.train.processes import Say
from redraft.train.rl.policy import bare_of, unfreeze_top
from redraft.train.rl.ppo import Learner, Ppo, RolloutPrompt
from redraft.train.rl.rewards import parse_rewards
from redraft.train.stages import Stages


class PpoStages(Stages[PpoOptions]):
    """What PPO does differently from training on given data."""

    row = "prompt"
    marked = ("", "a prompt, up to where the model writes")

    def check(self, own: PpoOptions, args: TrainingArguments) -> None:
        """Raise `RedraftError` if rollout batches cannot be divided, written or judged."""
        _check_sizes(own, args)
        if 0 < (most := own.importance_sampling_clip_max) < 1:
            raise UsageError(
                f"--importance_sampling_clip_max {most:g} would cut off the weight "
                "of a token on which sampler and trainer agree, which is 1.",
                hint="--importance_sampling_clip_max 2, or 0 for no weights.",
            )
        _check_writer(own, args)
        parse_rewards(own.reward)

    def encoder(self, own: PpoOptions, tokenizer: PreTrainedTokenizerBase) -> PromptEncoder:
        """Return the encoder of prompts."""
        flag, most, least = "--model_max_length", own.model_max_length, own.max_new_tokens
        if own.max_length is not None:
            flag, most, least = "--max_length", own.max_length, max(own.min_new_tokens, 1)
        elif own.min_new_tokens > own.max_new_tokens:
            raise UsageError(
                f"--min_new_tokens {own.min_new_tokens} is above --max_new_tokens {own.max_new_tokens}.",
                hint=f"--max_new_tokens {own.min_new_tokens}",
            )
        if least >= most:
            raise UsageError(
                f"an answer of {least} tokens leaves no room for a prompt in {flag} {most}.",
                hint=f"{flag} {2 * least}",
            )
        return PromptEncoder(tokenizer, own.format, most, least)

    def rows(self, prepared: Prepared, own: PpoOptions, seed: int) -> Rows:  # noqa: ARG002  (of all stages)
        """Put each prompt into a row."""
        return one_a_row(prepared.lengths, own.max_length or own.model_max_length)

    def model(
        self, own: PpoOptions, model: str, tokenizer: PreTrainedTokenizerBase, *, seed: int, say: Say
    ) -> PreTrainedModel | PeftModel:
        """Load a causal language model with an adapter, or with its top layers unfrozen."""
        if own.lora and own.num_layers_unfrozen is not None:
            say("--num_layers_unfrozen has no effect with an adapter, which all layers get (--lora False).")
        made = super().model(own, model, tokenizer, seed=seed, say=say)
        bare = bare_of(made)
        if bare.config._attn_implementation == "sdpa":  # noqa: SLF001 - the only way to ask
            with suppress(ModelError):  # else rows are padded
                use_segments(bare)
        if not own.lora:
            unfreeze_top(made, layers_unfrozen(own))
            say(f"the top {counted(layers_unfrozen(own), 'layer')} and what follows are trained.")
        return made

    def collate(self, rows: Sequence[Row], *, pad: int | None) -> Batch:
        """Pad prompts."""
        return padded(rows, pad=pad or 0)

    def counted(self, batch: Batch) -> int:
        """Return the sequences."""
        return len(batch["input_ids"])

    def source(
        self,
        model: PreTrainedModel | PeftModel,
        data: Data,
        own: PpoOptions,
        args: TrainingArguments,
        tokenizer: PreTrainedTokenizerBase,
        *,
        warn: Say,
    ) -> tuple[Ppo, Learner]:
        """Return rollout batches of the prompts, and the policy that writes them."""
        longest = int(data.rows.rows.lengths.max())
        trained = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        if trained and longest + (answer := room(own, longest)) > trained:
            flag = "--model_max_length" if own.max_length is None else "--max_length"
            raise UsageError(
                f"a prompt of {longest:,} tokens and an answer of {answer:,} are longer than the {trained:,} "
                "tokens that the model was trained for.",
                hint=f"{flag} {trained} leaves out prompts that are too long.",
            )
        policy = Learner(model, own)
        read = Ppo(
            policy,
            tokenizer,
            list(_prompts(data.rows.prepared, own, self.encoder(own, tokenizer))),
            parse_rewards(own.reward),
            own,
            size=args.train_batch_size,
            seed=args.seed,
            bf16=bool(args.bf16),
            folder=Path(str(args.output_dir)),
            say=warn,
        )
        if args.max_steps <= 0:
            batches = -(-args.num_train_epochs * len(data.rows) * samples_each(own) // own.num_rollouts)
            args.max_steps = int(batches * len(read) // args.gradient_accumulation_steps)
        if args.logging_steps <= 1:
            args.logging_steps = len(read) // args.gradient_accumulation_steps  # a line for a rollout batch
        return read, policy


PPO_STAGES = PpoStages()


def _check_sizes(own: PpoOptions, args: TrainingArguments) -> None:
    step = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
    processes = f" × {args.world_size} processes" if args.world_size > 1 else ""
    sizes = {
        "--chunk_size": min(own.chunk_size, own.num_rollouts),
        f"--per_device_train_batch_size × --gradient_accumulation_steps{processes}": step,
        **({"--num_generations": samples_each(own)} if samples_each(own) > 1 else {}),
    }
    for name, size in sizes.items():
        if own.num_rollouts % size:
            raise UsageError(
                f"--num_rollouts {own.num_rollouts} is no multiple of {name}, {size}.",
                hint=f"--num_rollouts {-(-own.num_rollouts // size) * size}",
            )


def _check_writer(own: PpoOptions, args: TrainingArguments) -> None:
    if args.eval_strategy != "no":
        raise UsageError(
            "--eval_strategy: PPO has no loss on held-out data.",
            hint="Leave it out: the log has the reward of each rollout batch.",
        )
    if own.rollout_url and not own.lora:
        raise UsageError("--rollout_url needs an adapter, which a server can load.", hint="--lora True")
    if own.rollout_url:
        check_address(own.rollout_url, hint="--rollout_url http://127.0.0.1:8000/v1")
    elif own.qlora:
        raise UsageError(
            "--qlora: answers cannot be written here with weights of 4 bits.",
            hint="--qlora False, or let a server write them (--rollout_url).",
        )
    if args.fsdp or args.deepspeed:
        raise UsageError(
            "--fsdp and --deepspeed share the weights among processes, and PPO writes with whole ones.",
            hint="Leave them out: each process then holds the model.",
        )


def _prompts(prepared: Prepared, own: PpoOptions, encoder: PromptEncoder) -> Iterator[RolloutPrompt]:
    """Yield each prepared prompt with its record, without answers."""
    raw = (each for path in own.data_path for each in raw_records(Path(path)))
    chains = enumerate(chain for each in raw for chain in encoder.chains(each))
    for number, place in enumerate(prepared.places.tolist()):
        record = next(chain for at, chain in chains if at == place)
        bare = record.model_copy(update={"steps": (), "drafts": (), "best": None})
        yield RolloutPrompt(bare, tuple(prepared[number].ids.tolist()))
