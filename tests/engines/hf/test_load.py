from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from redraft.engines.base import Tokens
from redraft.engines.hf.engine import HfEngine
from redraft.engines.hf.folders import folder_for
from redraft.engines.hf.load import computes_in_bfloat16
from redraft.engines.load import load_engine
from redraft.errors import ModelError, RedraftError, UsageError
from tests.engines.hf_folders import CONTEXT, folder, greedy, random_model, tokenizer
from tests.engines.talking import continued, run, tokens_of
from tests.weights.tiny_folders import lora, with_adapter

ASKED: Tokens = (40, 70, 12, 99, 100)


async def fixed(engine: Any) -> list[int]:
    found = tokens_of(await continued(engine, ASKED))
    await engine.aclose()
    return found


def said(ref: str, **options: Any) -> list[int]:
    async def ask() -> list[int]:
        return await fixed(await load_engine(ref, threads=1, **options))

    return run(ask())


def opened(ref: str, **options: Any) -> HfEngine:
    async def open_and_close() -> HfEngine:
        engine = await load_engine(ref, threads=1, **options)
        await engine.aclose()
        assert isinstance(engine, HfEngine)
        return engine

    return asyncio.run(open_and_close())


def refused(ref: Path | str) -> RedraftError:
    with pytest.raises(RedraftError) as caught:
        opened(str(ref))
    return caught.value


def rewrite(path: Path, **changes: Any) -> None:
    said = {**json.loads(path.read_text("utf-8")), **changes}
    path.write_text(json.dumps({key: value for key, value in said.items() if value is not None}), "utf-8")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder(tmp_path_factory.mktemp("hf") / "toy")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return folder(tmp_path / "toy")


# What runs


def test_a_folder_says_what_transformers_says(base: Path) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(base).eval()
    assert said(str(base)) == greedy(model, ASKED, 20)
    info = opened(str(base)).info
    assert (info.name, info.engine, info.context, info.native) == ("toy", "hf", CONTEXT, False)


def half(path: Path) -> Path:
    random_model().to(torch.bfloat16).save_pretrained(path)
    tokenizer().save_pretrained(path)
    return path


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_folder_computes_in_the_dtype_that_is_asked_for(tmp_path: Path, dtype: str) -> None:
    kind = getattr(torch, dtype)
    model = transformers.AutoModelForCausalLM.from_pretrained(half(tmp_path), dtype=kind).eval()
    assert said(str(tmp_path), dtype=dtype)[:4] == greedy(model, ASKED, 4)
    assert opened(str(tmp_path), dtype=dtype)._model.dtype == kind


def test_sixteen_bits_are_computed_as_fast_as_the_cpu_can(base: Path, tmp_path: Path) -> None:
    fast = torch.bfloat16 if computes_in_bfloat16() else torch.float32
    assert opened(str(half(tmp_path)))._model.dtype == fast
    assert opened(str(base))._model.dtype == torch.float32


def test_settings_reach_the_engine(base: Path) -> None:
    engine = opened(str(base), ctx=100, parallel=3)
    assert (engine.info.context, len(engine._batch._slots)) == (100, 3)


def test_a_model_says_that_it_revises(tmp_path: Path) -> None:
    plain = folder(tmp_path / "plain")
    native = folder(tmp_path / "native", said={"redraft_format": "selfee-1"})
    adapter = lora(plain, tmp_path / "lora")
    rewrite(adapter / "adapter_config.json", redraft_format="selfee-1")
    said = [opened(str(each)).info for each in (plain, native)]
    assert [(info.native, info.template) for info in said] == [(False, ""), (True, "selfee")]
    with_lora = opened(f"{plain}+{adapter}").info
    assert with_lora.native
    assert (with_lora.name, with_lora.record["name"]) == ("plain", "plain+lora")


def test_chat_models_end_at_each_of_their_end_tokens(copy: Path) -> None:
    plain = said(str(copy))
    rewrite(copy / "generation_config.json", eos_token_id=[2, plain[4]])
    assert said(str(copy)) == plain[: plain.index(plain[4]) + 1]


@pytest.mark.parametrize("settings", [{}, {"modules_to_save": ["lm_head"]}])
def test_an_adapter_is_merged_as_peft_runs_it(base: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    adapter = lora(base, tmp_path / "lora", **settings)
    assert said(f"{base}+{adapter}") == greedy(with_adapter(base, adapter), ASKED, 20) != said(str(base))


def test_an_adapter_may_bring_tokens_and_their_tokenizer(base: Path, tmp_path: Path) -> None:
    words = tokenizer()
    words.add_tokens(["<verdict>"])
    wide = folder(tmp_path / "wide", vocab_size=len(words))
    adapter = lora(
        wide, tmp_path / "lora", target_modules=["q_proj"], modules_to_save=["embed_tokens", "lm_head"]
    )
    words.save_pretrained(adapter)
    assert asyncio.run(opened(f"{base}+{adapter}").encode("<verdict>")) == (len(words) - 1,)


def test_a_model_in_memory_with_peft_around_it(base: Path, tmp_path: Path) -> None:
    adapter = lora(base, tmp_path / "lora")
    model = with_adapter(base, adapter)
    engine = HfEngine(model, tokenizer(), name="step 1", threads=1)
    assert run(fixed(engine)) == greedy(model, ASKED, 20) == said(f"{base}+{adapter}")


# What does not


def as_pickle(copy: Path) -> None:
    torch.save(load_file(copy / "model.safetensors"), copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()


def lacking(copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, copy / "model.safetensors", {"format": "pt"})


def with_code(copy: Path) -> None:
    (copy / "modeling.py").write_text("raise SystemExit('run')\n")
    classes = {"AutoConfig": "modeling.Config", "AutoModelForCausalLM": "modeling.Model"}
    rewrite(copy / "config.json", model_type="martian", auto_map=classes)


def configured(**changes: Any) -> Callable[[Path], None]:
    return lambda copy: rewrite(copy / "config.json", **changes)


CONFIG, HOLDS = "{copy}/config.json", "It contains: chat_template.jinja, config.json"


@pytest.mark.parametrize(
    ("damage", "message", "more"),
    [
        (lambda copy: (copy / "model.safetensors").unlink(),
         "{copy} has no weights: no model.safetensors", HOLDS),
        (lambda copy: (copy / "tokenizer.json").unlink(),
         "{copy} has no tokenizer: no tokenizer.json, no tokenizer.model.", "tokenizer_config.json"),
        (lambda copy: (copy / "tokenizer.json").write_text("{}"),
         "the tokenizer of {copy} cannot be loaded: ", ""),
        (as_pickle, "{copy}/pytorch_model.bin", "is a pickle, which can contain a program"),
        (lacking,
         "{copy} lacks tensors that its config.json asks for: model.layers.1.mlp.up_proj.weight.", ""),
        (configured(intermediate_size=72), "{copy} cannot be loaded: ", ""),
        (configured(model_type="martian", architectures=["MartianForCausalLM"]),
         f"{CONFIG} cannot be loaded: ", "martian"),
        (with_code, f"{CONFIG} cannot be loaded: ", ""),
        (configured(model_type="vit", architectures=["ViTModel"]),
         "{copy} has the model type 'vit', which does not generate text.", ""),
        (configured(layer_types=["full_attention", "chunked_attention"]),
         "LlamaForCausalLM is not supported: ", "it has layers of the type chunked_attention"),
    ],
)  # fmt: skip
def test_a_damaged_folder(copy: Path, damage: Callable[[Path], None], message: str, more: str) -> None:
    damage(copy)
    error = refused(copy)
    assert isinstance(error, ModelError | UsageError)
    assert error.message.startswith(message.format(copy=copy))
    assert more in f"{error.message} {error.hint}"


def test_that_remembers_otherwise(tmp_path: Path) -> None:
    torch.manual_seed(1)
    settings = transformers.MambaConfig(vocab_size=271, hidden_size=16, num_hidden_layers=1, state_size=4)
    transformers.MambaForCausalLM(settings).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    error = refused(tmp_path)
    assert error.message.startswith("MambaForCausalLM is not supported: ")
    assert error.hint == "Convert it for llama.cpp: redraft weights gguf FOLDER -o FILE.gguf"


def test_whose_parts_do_not_make_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model()
    asked = model.forward

    def without_positions(*args: Any, position_ids: Any = None, **named: Any) -> Any:
        return asked(*args, position_ids=None if position_ids is None else position_ids * 0, **named)

    without_positions.__signature__ = __import__("inspect").signature(asked)  # type: ignore[attr-defined]
    monkeypatch.setattr(model, "forward", without_positions)
    with pytest.raises(ModelError) as caught:
        HfEngine(model, tokenizer(), name="toy")
    assert caught.value.message.endswith("its logits differ when redraft caches part of the text.")


def test_that_takes_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model()
    monkeypatch.setattr(model, "forward", lambda position_ids, logits_to_keep: None)
    with pytest.raises(ModelError, match=f"in transformers {transformers.__version__}.*past_key_values"):
        HfEngine(model, tokenizer(), name="toy")


def test_with_the_tokenizer_of_another(tmp_path: Path) -> None:
    random_model(vocab_size=100).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    assert refused(tmp_path).message == ("the tokenizer has 271 tokens, but the model has only 100.")


def test_tokens_that_only_the_model_has_are_never_said(tmp_path: Path) -> None:
    model = random_model(vocab_size=400, tie_word_embeddings=False)
    model.lm_head.weight.data[300] *= 100
    model.save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    assert max(said(str(tmp_path))) < 271


def test_an_adapter_for_another_base(base: Path, tmp_path: Path) -> None:
    wide = folder(tmp_path / "wide", hidden_size=48)
    error = refused(f"{base}+{lora(wide, tmp_path / 'lora')}")
    assert error.message.startswith(f"the adapter {tmp_path / 'lora'} does not fit the model {base}: ")
    assert error.hint == f"Use the model that the adapter was trained on: '{wide}'"


def test_one_adapter_at_a_time(base: Path, tmp_path: Path) -> None:
    adapter = lora(base, tmp_path / "lora")
    error = refused(f"{base}+{adapter}+{adapter}")
    assert error.message == f"{base} accepts one adapter, but 2 are given."
    assert error.hint == f"Merge the first adapter: redraft weights merge-lora {base} {adapter} -o DIR"


def test_a_gguf_file_becomes_a_folder_once_until_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []

    def convert(_file: Path, to: Path, _run: Any) -> None:
        to.mkdir()
        made.append(to)

    monkeypatch.setenv("REDRAFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("redraft.weights.gguf.to_folder.import_gguf", convert)
    file = tmp_path / "small.gguf"
    file.write_bytes(b"GGUF")
    first = folder_for(str(file))
    assert (folder_for(str(file)), made) == (first, [Path(first)])
    file.write_bytes(b"GGUF and more")
    assert folder_for(str(file)) != first
    assert folder_for("org/name") == "org/name"
    with pytest.raises(ModelError, match="cannot be read"):
        folder_for("missing.gguf")
