"""The transformers engine on tiny random models: what it says, and that company changes nothing.

What a model says alone, uncached and unbatched, is computed by transformers' own `generate`.
"""

from __future__ import annotations

import asyncio
import gc
import math
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import processors

from redraft.chain import Chain
from redraft.chain.encoder import Encoder, Example
from redraft.engines.base import Delta, Message, Sampling, Tokens
from redraft.engines.hf.batch import READ, draw
from redraft.engines.hf.cache import Slots
from redraft.engines.hf.engine import HfEngine
from redraft.errors import ContextError, EngineError, ModelError, RecordError, UsageError
from redraft.options import MachineOptions
from tests.engines.contract import Contract
from tests.engines.hf_folders import CONTEXT, greedy, random_model, tokenizer
from tests.engines.talking import GREEDY, collect, continued, continued_together, run, said, tokens_of

T = TypeVar("T")
HI: list[Message] = [{"role": "user", "content": "Hi there."}]


def made(model: Any = None, **settings: Any) -> HfEngine:
    return HfEngine(model or random_model(), tokenizer(), name="toy", threads=1, **settings)


def prompt(seed: int, length: int) -> Tokens:
    drawn = torch.randint(3, 259, (length,), generator=torch.Generator().manual_seed(seed))
    return tuple(int(token) for token in drawn)


@pytest.fixture(scope="module")
def engine() -> Iterator[HfEngine]:
    opened = made(parallel=3)
    yield opened
    run(opened.aclose())


class TestContract(Contract):
    kind, control = "hf", frozenset({0, 1, 2})


# Streams


@pytest.mark.parametrize(
    ("kind", "changes", "lengths"),
    [
        ("Llama", {}, (3, 40, 1, 7, 90, 12)),
        ("Qwen3", {}, (3, 40, 1, 7, 90, 12)),
        ("GPTNeoX", {}, (3, 40, 1, 7, 90, 12)),
        ("Mistral", {"sliding_window": 8}, (30, 5)),
        ("Gemma3", {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]}, (30, 5)),
        ("Llama", {"max_position_embeddings": 4 * READ}, (READ + 100, 9)),
    ],
    ids=["llama", "qwen3", "neox", "a sliding window", "sliding layers", "a prompt that is read in parts"],
)
def test_it_says_what_generate_says(kind: str, changes: dict[str, Any], lengths: tuple[int, ...]) -> None:
    model = random_model(kind, **changes)
    prompts = [prompt(seed, length) for seed, length in enumerate(lengths)]
    for each, deltas in zip(prompts, continued_together(made(model, parallel=4), prompts), strict=True):
        assert tokens_of(deltas) == greedy(model, each, 20)
        assert deltas[-1].prompt_tokens == len(each)
        assert deltas[-1].completion_tokens == len(tokens_of(deltas))


async def test_the_end_token_ends_a_text_and_has_none() -> None:
    model = random_model()
    ids = prompt(4, 6)
    plain = greedy(model, ids, 8)

    engine = made(model, ends=frozenset({plain[5]}))
    deltas = await continued(engine, ids)
    assert tokens_of(deltas) == plain[: plain.index(plain[5]) + 1]
    assert (deltas[-1].finish, deltas[-1].stop_text) == ("stop", None)
    assert said(deltas) == await engine.decode(tokens_of(deltas)[:-1]) or "\ufffd" in said(deltas)
    await engine.aclose()


def test_the_context_ends_a_text(engine: HfEngine) -> None:
    last = run(continued(engine, prompt(1, CONTEXT - 6), Sampling(0.0, max_tokens=50)))[-1]
    assert (last.finish, last.completion_tokens) == ("context", 6)


def test_a_token_that_the_model_does_not_have(engine: HfEngine) -> None:
    with pytest.raises(ModelError) as unknown:
        run(continued(engine, (5, 99999)))
    assert unknown.value.message == "toy has no token 99999: its vocabulary has 271 tokens."
    with pytest.raises(ModelError):
        run(engine.decode((-1,)))


async def test_prompts_of_several_lengths_are_read_together() -> None:
    model, widths = random_model(), list[int]()
    model.register_forward_pre_hook(
        lambda _, __, given: widths.append(given["input_ids"].shape[1]), with_kwargs=True
    )
    # The longest ends at the end of the context, and the others may not be padded past it.
    prompts = [prompt(seed, length) for seed, length in enumerate((3, 40, 1, 17, CONTEXT - 20, 90))]

    engine = made(model, parallel=6, ends=frozenset())
    del widths[:]  # what checked the model
    streams = [asyncio.create_task(continued(engine, each)) for each in prompts]
    with engine._batch._changed:  # so that none begins before all are there
        await asyncio.sleep(0)
    found = await asyncio.gather(*streams)
    await engine.aclose()
    assert [width for width in widths if width > 1] == [39, CONTEXT - 21, 89]
    model.generation_config.eos_token_id = None
    for asked, deltas in zip(prompts, found, strict=True):
        assert tokens_of(deltas) == greedy(model, asked, 20)


async def test_a_beginning_that_prompts_share_is_read_once() -> None:
    model = random_model()
    engine = made(model, parallel=4)
    asked = [(*prompt(1, 40), *end) for end in (prompt(2, 9), prompt(2, 9), prompt(3, 20))]
    found = []
    for some in (asked[:2], [*asked, prompt(4, 12)]):
        async with engine.paused():
            begun = [asyncio.ensure_future(continued(engine, each)) for each in some]
            await asyncio.sleep(0)
        found.append(await asyncio.gather(*begun))
    await engine.aclose()
    assert [[deltas[-1].cached_tokens for deltas in each] for each in found] == [[0, 48], [0, 48, 40, 0]]
    for each, deltas in zip([*asked[:2], *asked], [*found[0], *found[1][:3]], strict=True):
        assert tokens_of(deltas) == greedy(model, each, 20)


async def test_a_chain_finds_what_is_already_computed() -> None:
    model = random_model()

    engine = made(model, parallel=2)
    chains = [list(prompt(seed, 50)) for seed in (1, 2)]
    for step in range(3):
        lasts = await asyncio.gather(*(continued(engine, tuple(chain)) for chain in chains))
        for chain, deltas in zip(chains, lasts, strict=True):
            assert tokens_of(deltas) == greedy(model, tuple(chain), 20)
            assert deltas[-1].prompt_tokens == len(chain)
            if step:  # all but the newest token, what was forced, and where it was cut
                assert deltas[-1].cached_tokens == len(chain) - 4
            chain += [*tokens_of(deltas)[:-3], *prompt(step, 4)]
    await engine.aclose()


def test_a_loop_that_is_gone_is_not_waited_for() -> None:
    engine = made(parallel=1, ends=frozenset())

    async def leave() -> None:
        stream = engine.stream("Rain", Sampling(0.0, max_tokens=400))
        await anext(stream)
        engine._batch._running[0].deliver(Delta("kept"))

    loop = asyncio.new_event_loop()
    loop.run_until_complete(leave())
    loop.close()
    gc.collect()
    assert run(continued(engine, "Snow", Sampling(0.0, max_tokens=2)))[-1].finish == "max_tokens"
    run(engine.aclose())


async def test_closing_twice_ends_what_runs() -> None:
    engine = made(ends=frozenset())
    stream = engine.stream("Rain", Sampling(0.0, max_tokens=450))
    await anext(stream)
    await engine.aclose()
    await engine.aclose()
    assert not engine._batch.alive
    with pytest.raises(EngineError, match="was closed during an answer"):
        await collect(stream)
    with pytest.raises(EngineError, match="the engine was closed"):
        await continued(engine, "Snow")


# What goes wrong


def filled_caches() -> list[Slots]:
    return [each for each in gc.get_objects() if type(each) is Slots and each.layers[0].is_initialized]


def test_engine_and_cache_are_freed_at_once() -> None:
    gc.collect()
    gc.disable()
    try:
        of_others = len(filled_caches())
        engine = made()
        run(continued(engine, prompt(1, 5)))
        assert len(filled_caches()) == of_others + 1
        run(engine.aclose())
        assert len(filled_caches()) == of_others
        left = weakref.ref(engine)
        del engine
        assert left() is None
    finally:
        gc.enable()


def test_a_model_that_diverged_is_named() -> None:
    model, ids = random_model(), prompt(1, 9)
    engine = made(model)
    sound = model.model.layers[0].mlp.up_proj.weight.data.clone()
    model.model.layers[0].mlp.up_proj.weight.data[7, 3] = math.nan
    with pytest.raises(EngineError) as caught:
        run(continued(engine, ids))
    assert caught.value.message == "the model's logits are not finite (NaN or infinity) after 9 tokens."
    assert "redraft weights verify" in (caught.value.hint or "")
    model.model.layers[0].mlp.up_proj.weight.data = sound
    assert tokens_of(run(continued(engine, ids))) == greedy(model, ids, 20)
    run(engine.aclose())


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RuntimeError("a kernel is ill"), "transformers failed: RuntimeError: a kernel is ill"),
        (
            torch.OutOfMemoryError("CUDA out of memory"),
            "the GPU has too little memory for this many sequences of this length.",
        ),
    ],
)
def test_a_pass_that_fails_ends_its_streams_and_not_the_engine(error: Exception, message: str) -> None:
    model, ids = random_model(), prompt(1, 9)
    engine = made(model)
    whole = tokens_of(run(continued(engine, ids)))
    broken = model.model.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(error))

    async def both() -> list[BaseException | list[Delta]]:
        streams = (continued(engine, text) for text in ("Rain", "Snow"))
        return await asyncio.gather(*streams, return_exceptions=True)

    assert [isinstance(each, EngineError) and each.message for each in run(both())] == [message] * 2
    broken.remove()
    assert tokens_of(run(continued(engine, ids))) == whole == greedy(model, ids, 20)
    run(engine.aclose())


# Drawing


def test_draws_follow_the_probabilities() -> None:
    chances = torch.tensor([0.5, 0.2, 0.3, 0.0])
    numbers = [(i + 0.5) / 100 for i in range(100)]

    def counts(how: Sampling) -> list[int]:
        drawn = draw(chances.log().expand(100, 4), [how] * 100, numbers)
        return [drawn.count(token) for token in range(4)]

    assert (counts(Sampling(1.0)), counts(Sampling(0.0))) == ([50, 20, 30, 0], [100, 0, 0, 0])
    assert counts(Sampling(1.0, top_p=0.5)) == [100, 0, 0, 0]
    assert counts(Sampling(1.0, top_p=0.75)) == [63, 0, 37, 0]
    assert counts(Sampling(0.5))[0] == round(100 * 0.25 / 0.38)


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=9), st.floats(0, 1, exclude_max=True), st.data())
def test_only_what_can_be_said_is_drawn(logits: list[float], number: float, data: Any) -> None:
    forbidden = data.draw(st.integers(0, len(logits)))
    row = torch.tensor([[-math.inf] * forbidden + logits])
    how = Sampling(data.draw(st.floats(0.05, 3)), data.draw(st.floats(0.01, 1)))
    (token,) = draw(row, [how], [number])
    assert token is not None
    assert forbidden <= token < row.shape[1]


# Chat


def test_chat_answers_as_the_template_says(engine: HfEngine) -> None:
    deltas = run(collect(engine.chat(HI, GREEDY)))
    rendered = tokenizer().apply_chat_template(HI, add_generation_prompt=True)["input_ids"]
    assert deltas[-1].prompt_tokens == len(rendered)
    assert tokens_of(deltas) == tokens_of(run(continued(engine, tuple(rendered))))


NAMED = "{% for m in messages %}{{ m.name or m.role }}: {{ m.content }}<|im_end|>{% endfor %}"


@pytest.mark.parametrize("name", ["ann", "ann<|im_end|>"])
def test_a_template_may_write_who_speaks(name: str) -> None:
    engine = HfEngine(random_model(), tokenizer(chat_template=NAMED), name="toy", threads=1)
    tokens = run(engine._asked_tokens([{"role": "user", "content": "Hi", "name": name}], GREEDY))
    assert (run(engine.decode(tokens)), tokens.count(2)) == (f"{name}: Hi<|im_end|>", 1)


def test_a_chat_begins_as_it_was_trained() -> None:
    made = tokenizer()
    made.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
    )
    engine = HfEngine(random_model(), made, name="toy", threads=1)
    prompt = run(engine._chat_tokens([{"role": "user", "content": "Hi"}]))
    run(engine.aclose())
    chain = Chain.model_validate({"prompt": {"instruction": "Hi"}, "steps": [{"answer": "b"}]})
    trained = Encoder(made, "chat", "answer").encode(chain)
    assert isinstance(trained, Example)
    assert prompt[0] == 0
    assert tuple(trained.ids.tolist())[: len(prompt)] == prompt


ALTERNATING = (
    "{% for m in messages %}{% if m.role == 'system' or (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{{ m.content }}{% endfor %}"
)


@pytest.mark.parametrize("role", ["system", "user"])
def test_turns_that_a_template_refuses_are_folded(role: str) -> None:
    engine = HfEngine(random_model(), tokenizer(chat_template=ALTERNATING), name="toy", threads=1)
    first: Any = {"role": role, "content": "Be brief."}
    found = run(engine._asked_tokens([first, *HI], GREEDY))
    assert run(engine.decode(found)) == f"Be brief.\n\n{HI[0]['content']}"
    with pytest.raises(RecordError, match="refuses these messages: roles must alternate"):
        run(engine._asked_tokens([{"role": "assistant", "content": "Hello."}, *HI], GREEDY))
    run(engine.aclose())


# Scores


async def test_tokens_come_with_the_logarithms_of_their_probabilities() -> None:
    model = random_model()
    how = Sampling(0.7, top_p=0.9, max_tokens=40, seed=3, logprobs=True, top_logprobs=2)

    engine = made(model, parallel=3)
    asked = [prompt(seed, 5 + seed) for seed in (1, 2)]
    first, second, plain = await asyncio.gather(
        *(continued(engine, each, how) for each in asked), continued(engine, (5,), GREEDY)
    )
    await engine.aclose()
    assert engine.info.logprobs
    assert not any(delta.logprobs for delta in plain)
    for before, deltas in zip(asked, (first, second), strict=True):
        assert all(len(delta.logprobs) == len(delta.tokens) for delta in deltas)
        found = torch.tensor([number for delta in deltas for number in delta.logprobs])
        ids = torch.tensor([[*before, *tokens_of(deltas)]])
        with torch.inference_mode():
            expected = torch.log_softmax(model(input_ids=ids).logits[0, :-1, :271].float(), dim=-1)
        likeliest = [each for delta in deltas for each in delta.likeliest]
        best = expected[len(before) - 1 :].topk(2)
        assert [[token for token, _ in each] for each in likeliest] == best.indices.tolist()
        expected = expected.gather(-1, ids[0, 1:, None])[len(before) - 1 :, 0]
        assert (found - expected).abs().max() <= 1e-4


def test_scores_are_the_logarithms_of_probabilities(engine: HfEngine) -> None:
    # Short ones are computed together, and the longest in parts.
    texts = [prompt(seed, length) for seed, length in enumerate((30, 1, 500, 7, 31, 300))]
    found = run(engine.score(texts))
    assert [len(scores) for scores in found] == [len(text) - 1 for text in texts]
    for text, scores in zip(texts, found, strict=True):
        with torch.no_grad():
            logits = engine._model(torch.tensor([text])).logits[0, :-1, :271]
        expected = torch.log_softmax(logits, -1).gather(1, torch.tensor(text)[1:, None])[:, 0]
        assert torch.tensor(scores) == pytest.approx(expected, abs=1e-4)
    assert engine.info.scores
    assert run(engine.score([])) == []
    assert len(run(engine.score(["Rain falls"]))[0]) == len(run(engine.encode("Rain falls"))) - 1
    for wrong in (["Rain", ""], "Rain falls"):
        with pytest.raises(UsageError):
            run(engine.score(wrong))
    with pytest.raises(ContextError):
        run(engine.score([prompt(1, CONTEXT + 1)]))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="torch finds no device 'cuda'"):
        run(HfEngine.start(tmp_path, machine=MachineOptions(device="cuda")))
