from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from redraft.errors import ModelError, UsageError
from redraft.weights import checkpoint
from redraft.weights.checkpoint import open_checkpoint
from redraft.weights.delta import KEY, Convention, apply, diff
from redraft.weights.output import Run
from tests.weights.model_files import (
    CONFIG,
    EIGHT_BITS,
    FLOATS,
    INTEGERS,
    VOCABULARY,
    WIDTH,
    bits,
    llama,
    load,
    same_bits,
    same_model,
    save,
    tuned,
)

DTYPES = st.sampled_from((*FLOATS, *EIGHT_BITS, *INTEGERS))


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "CHUNK", 96)


@pytest.mark.slow
@settings(max_examples=settings().max_examples // 4)
@given(data=st.data())
def test_an_exact_delta_gives_any_target_back_bit_for_bit(data: st.DataObject) -> None:
    names = [f"t{i}.weight" for i in range(data.draw(st.integers(1, 5), "tensors"))]
    base, target = {}, {}
    for seed, name in enumerate(names):
        shape, dtype = data.draw(st.lists(st.integers(0, 7), max_size=3).map(tuple)), data.draw(DTYPES)
        same = data.draw(st.booleans(), "same dtype")
        base[name] = bits(shape, dtype if same else data.draw(DTYPES), 2 * seed)
        target[name] = bits(shape, dtype, 2 * seed + 1)
    files = st.integers(1, len(names))
    with tempfile.TemporaryDirectory() as temp, pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "CHUNK", data.draw(st.integers(1, 64), "chunk"))
        folder = Path(temp)
        save(folder / "base", base, files=data.draw(files))
        save(folder / "target", target, files=data.draw(files))
        diff(folder / "base", folder / "target", folder / "delta", exact=True)
        apply(folder / "base", folder / "delta", folder / "again")
        assert same_model(load(folder / "again"), target)


@pytest.mark.slow
@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_a_tuned_model_comes_back(tmp_path: Path, dtype: torch.dtype, exact: bool) -> None:
    base = llama(dtype=dtype)
    target = tuned(base)
    save(tmp_path / "base", base, files=3)
    save(tmp_path / "target", target, files=2, config=CONFIG)
    diff(tmp_path / "base", tmp_path / "target", tmp_path / "delta", exact=exact)
    apply(tmp_path / "base", tmp_path / "delta", tmp_path / "again")
    again = load(tmp_path / "again")
    if exact:
        assert same_model(again, target)
    for name, values in target.items():
        torch.testing.assert_close(again[name], values, atol=0.0001, rtol=0.01)
    files = {path.name for path in (tmp_path / "again").glob("*.safetensors")}
    assert files == {f"model-0000{number}-of-00002.safetensors" for number in (1, 2)}


def test_a_plain_delta_is_the_plain_difference(tmp_path: Path) -> None:
    base = llama(dtype=torch.float16)
    target = {name: values.float() for name, values in tuned(base).items()}
    _make(tmp_path, base, target)
    for name, values in load(tmp_path / "delta").items():
        assert same_bits(values, target[name] - base[name].float())


@pytest.mark.parametrize("exact", [True, False])
def test_rows_that_the_base_lacks(tmp_path: Path, exact: bool) -> None:
    target = tuned(llama(rows=VOCABULARY + 3))
    _make(tmp_path, llama(), target, exact=exact)
    lines: list[str] = []
    apply(tmp_path / "base", tmp_path / "delta", tmp_path / "again", Run(tell=lines.append))
    table = "model.embed_tokens.weight"
    assert same_bits(load(tmp_path / "again")[table][VOCABULARY:], target[table][VOCABULARY:])
    assert lines[0] == "convention for added tokens: zero (as the delta records)"


@pytest.mark.parametrize(
    ("base", "delta", "licence", "said"),
    [
        ("license: other", "license: cc-by-nc-4.0", "other", "cc-by-nc-4.0 (delta delta); other (base base)"),
        ("license: MIT", "license: mit", "mit", ""),
        ("tags: x", "license: cc-by-nc-4.0", "cc-by-nc-4.0", "the licence is cc-by-nc-4.0 (delta delta)."),
        ("license: mit", "tags: x", "other", "mit (base base); unknown (delta delta)."),
    ],
)
def test_licences_of_base_and_delta_go_into_what_they_make(
    tmp_path: Path, base: str, delta: str, licence: str, said: str
) -> None:
    release(tmp_path, "none")
    for name, front in (("base", base), ("delta", delta)):
        (tmp_path / name / "README.md").write_text(f"---\n{front}\n---\n")
    lines: list[str] = []
    run = Run(tell=lines.append)
    apply(tmp_path / "base", tmp_path / "delta", tmp_path / "again", run)
    assert f"license: {licence}\n" in (tmp_path / "again" / "README.md").read_text()
    assert bool(said) is any("licence" in line for line in lines)
    assert said in "\n".join(lines)


def test_a_tokenizer_is_the_deltas_and_not_half_of_each(tmp_path: Path) -> None:
    release(tmp_path, "none")
    for name in ("tokenizer.json", "chat_template.jinja", "special_tokens_map.json", "LICENSE"):
        (tmp_path / "base" / name).write_text("{}")
    (tmp_path / "delta" / "tokenizer.model").write_bytes(b"pieces")
    apply(tmp_path / "base", tmp_path / "delta", tmp_path / "again")
    found = {path.name for path in (tmp_path / "again").iterdir()}
    assert {"tokenizer.model", "LICENSE"} <= found
    assert not found & {"tokenizer.json", "chat_template.jinja", "special_tokens_map.json"}
    (tmp_path / "delta" / "tokenizer.model").unlink()
    apply(tmp_path / "base", tmp_path / "delta", tmp_path / "of the base")
    assert (tmp_path / "of the base" / "tokenizer.json").exists()


def test_a_buffer_of_old_checkpoints_is_no_difference(tmp_path: Path) -> None:
    release(tmp_path, "none")
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    save(tmp_path / "delta", load(tmp_path / "delta") | {name: torch.zeros(4)}, files=2, config=CONFIG)
    apply(tmp_path / "base", tmp_path / "delta", tmp_path / "again")
    assert name not in load(tmp_path / "again")
    frequencies = torch.tensor([1.0, 0.1, 0.01, 0.001])
    save(tmp_path / "base", load(tmp_path / "base") | {name: frequencies}, config=CONFIG)
    apply(tmp_path / "base", tmp_path / "delta", tmp_path / "both")
    assert same_bits(load(tmp_path / "both")[name], frequencies)


def test_a_delta_is_no_model(tmp_path: Path) -> None:
    folder = _make(tmp_path)
    with pytest.raises(UsageError, match="delta is a delta, not a model") as caught:
        apply(folder / "delta", folder / "base", folder / "again")
    assert caught.value.hint == "Type: redraft weights apply BASE DELTA"
    for base, target in (("delta", "target"), ("base", "delta")):
        with pytest.raises(ModelError, match="delta is a delta, not a model"):
            diff(folder / base, folder / target, folder / "again")


def test_codes_of_quantised_models_have_only_an_exact_difference(tmp_path: Path) -> None:
    config = CONFIG | {"quantization_config": {"quant_method": "int8"}}
    base, target = ({"a.weight": torch.tensor([[1, number]], dtype=torch.int8)} for number in (2, 100))
    save(tmp_path / "base", base, config=config)
    save(tmp_path / "target", target, config=config)
    with pytest.raises(ModelError, match=r"base is quantised \('int8'\): it contains codes, not weights"):
        diff(tmp_path / "base", tmp_path / "target", tmp_path / "delta")
    diff(tmp_path / "base", tmp_path / "target", tmp_path / "delta", exact=True)
    apply(tmp_path / "base", tmp_path / "delta", tmp_path / "again")
    assert same_model(load(tmp_path / "again"), target)


def test_our_header_over_other_tensors(tmp_path: Path) -> None:
    folder = _make(tmp_path)
    said = checkpoint.open_checkpoint(folder / "delta").metadata
    longer = {**load(folder / "delta"), "model.norm.weight": torch.zeros(3)}
    for wrong in ({"b.weight": torch.zeros(2)}, longer):
        save_file(wrong, folder / "delta" / "model.safetensors", metadata=dict(said))
        refused(folder, UsageError, "is not the base of the delta")


# ---------------------------------------------------------------- deltas of others


def release(folder: Path, convention: str, added: int = 1) -> dict[str, torch.Tensor]:
    base = llama(3, torch.float16)
    added = 0 if convention == "none" else added
    start = {
        name: torch.cat((values, (torch.randn(added, WIDTH) * 0.02).to(values.dtype)))
        if name.endswith(("embed_tokens.weight", "lm_head.weight"))
        else values
        for name, values in base.items()
    }
    target = tuned(start, by=0.001)
    delta = {}
    for name, values in target.items():
        ours = base[name].float()
        if len(values.shape) == 2 and len(values) > len(ours):
            fill = ours.mean(0).expand(added, WIDTH) if convention == "mean" else torch.zeros(added, WIDTH)
            ours = torch.cat((ours, fill.half().float()))
        delta[name] = (values.float() - ours).to(values.dtype)
    save(folder / "base", base, config=CONFIG)
    save(folder / "delta", delta, files=2, config=CONFIG | {"vocab_size": VOCABULARY + added})
    return target


@pytest.mark.parametrize(
    ("convention", "added"), [("none", 0), ("zero", 1), ("zero", 5), ("mean", 1), ("mean", 3)]
)
def test_others_deltas_apply_by_convention(tmp_path: Path, convention: Convention, added: int) -> None:
    target = release(tmp_path, convention, added)
    lines: list[str] = []
    vocab = convention if added else None
    apply(tmp_path / "base", tmp_path / "delta", tmp_path / "again", Run(tell=lines.append), vocab=vocab)
    assert lines[0].startswith(f"convention for added tokens: {convention} (")
    again = load(tmp_path / "again")
    for name, values in target.items():
        torch.testing.assert_close(again[name], values, atol=0.00002, rtol=0.002)


@pytest.mark.parametrize(
    ("made", "vocab", "said"),
    [
        ("none", "zero", "--vocab zero does not fit"),
        ("zero", None, r"49 embedding rows, but the base has 48.*\n.*--vocab mean \(Alpaca, SelFee\)"),
        ("zero", "none", "49 embedding rows, but the base has 48"),
    ],
)
def test_vocab_that_does_not_fit(tmp_path: Path, made: str, vocab: Convention | None, said: str) -> None:
    release(tmp_path, made)
    refused(tmp_path, UsageError, said, vocab=vocab)


# ---------------------------------------------------------------- wrong bases, and other bad input


def _make(folder: Path, base: Any = None, target: Any = None, *, exact: bool = False) -> Path:
    base = base or llama()
    save(folder / "base", base, config=CONFIG)
    save(folder / "target", target or tuned(base), config=CONFIG)
    diff(folder / "base", folder / "target", folder / "delta", exact=exact)
    return folder


def refused(folder: Path, error: type[Exception], match: str, **how: Any) -> None:
    with pytest.raises(error, match=match):
        apply(folder / "base", folder / "delta", folder / "again", **how)


@pytest.mark.parametrize("exact", [True, False])
def test_a_wrong_base_is_refused_before_anything_is_written(tmp_path: Path, exact: bool) -> None:
    folder = _make(tmp_path, exact=exact)
    save(folder / "base", llama(7), config=CONFIG)
    refused(folder, UsageError, r"is not the base of .*delta\. The delta was made from .*base \(BF16\)")
    save(folder / "other", {name: values.half() for name, values in llama().items()})
    with pytest.raises(UsageError) as caught:
        apply(folder / "other", folder / "delta", folder / "again")
    right, other = str(caught.value.hint).splitlines()
    assert right == f"redraft weights apply {folder / 'base'} {folder / 'delta'} -o OUT"
    way = f"redraft weights convert {folder / 'other'} --dtype bf16 -o other-bf16"
    assert other == f"If {folder / 'other'} is that model in F16, convert it first: {way}"
    assert not list(folder.glob("again*"))


@pytest.mark.parametrize("exact", [True, False])
def test_vocab_of_a_delta_of_ours_is_recorded(tmp_path: Path, exact: bool) -> None:
    refused(_make(tmp_path, exact=exact), UsageError, "mean is wrong for", vocab="mean")


def test_a_delta_of_another_architecture(tmp_path: Path) -> None:
    release(tmp_path, "none")
    save(tmp_path / "base", {name: torch.cat((values, values), -1) for name, values in llama().items()})
    refused(tmp_path, UsageError, r"not the base of the delta .*head.weight' is 48 × 32 in the base and 48")
    save(tmp_path / "base", llama() | {"model.layers.2.mlp.up_proj.weight": torch.zeros(2, 2)})
    refused(tmp_path, UsageError, r"delta lacks 1 tensor, such as 'model.layers.2")
    save(tmp_path / "base", llama(3, torch.float16), config=CONFIG | {"num_attention_heads": 4})
    refused(tmp_path, UsageError, "num_attention_heads is 4 in the base and 2 in the delta")


def test_a_target_of_another_architecture(tmp_path: Path) -> None:
    save(tmp_path / "base", llama())
    save(tmp_path / "target", {name: values for name, values in llama().items() if "layers.1" not in name})
    with pytest.raises(UsageError, match="target lacks 9 tensors"):
        diff(tmp_path / "base", tmp_path / "target", tmp_path / "delta")
    save(tmp_path / "target", llama(rows=VOCABULARY - 1))
    with pytest.raises(UsageError, match=r"is 48 × 16 in the base and 47 × 16 in the target"):
        diff(tmp_path / "base", tmp_path / "target", tmp_path / "delta")


def test_tables_that_grow_differently_fit_no_convention(tmp_path: Path) -> None:
    release(tmp_path, "zero")
    delta = load(tmp_path / "delta")
    delta["lm_head.weight"] = torch.cat((delta["lm_head.weight"], torch.zeros(1, WIDTH).half()))
    save(tmp_path / "delta", delta, files=2)
    refused(tmp_path, ModelError, "does not extend all embeddings alike")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite(tmp_path: Path, value: float) -> None:
    base, target = llama(), tuned(llama())
    target["model.norm.weight"][3] = value
    save(tmp_path / "base", base)
    save(tmp_path / "target", target)
    with pytest.raises(ModelError, match=r"(?s)'model.norm.weight': the result has NaN or infinite.*--exact"):
        diff(tmp_path / "base", tmp_path / "target", tmp_path / "delta")
    assert not (tmp_path / "delta").exists()
    diff(tmp_path / "base", tmp_path / "target", tmp_path / "delta", exact=True)
    apply(tmp_path / "base", tmp_path / "delta", tmp_path / "again")
    assert same_model(load(tmp_path / "again"), target)


@pytest.mark.parametrize(
    "said",
    [
        "not JSON",
        "[1]",
        "[" * 100_000,
        json.dumps({"exact": True, "vocabulary": "none", "whole": []}),
        json.dumps({"exact": True, "vocabulary": "none", "whole": [], "dtypes": {"a.weight": "F64"}}),
        json.dumps({"exact": True, "vocabulary": "none", "whole": [], "dtypes": {"a.weight": "G16"}}),
        json.dumps({"exact": False, "vocabulary": "some", "whole": []}),
        json.dumps({"exact": False, "vocabulary": "none", "whole": 3}),
        json.dumps({"exact": False, "vocabulary": "none", "whole": [], "more": 1}),
    ],
)
def test_a_header_that_lies_about_the_delta(tmp_path: Path, said: str) -> None:
    save(tmp_path / "base", {"a.weight": torch.zeros(4, dtype=torch.float16)})
    (tmp_path / "delta").mkdir()
    tensors = {"a.weight": torch.zeros(4, dtype=torch.uint16)}
    save_file(tensors, tmp_path / "delta" / "model.safetensors", metadata={KEY: said})
    refused(tmp_path, ModelError, "the recipe in its header does not fit")


def test_a_header_that_leaves_out_a_buffer(tmp_path: Path) -> None:
    name, values = "model.layers.0.self_attn.rotary_emb.inv_freq", torch.tensor([1.0, 0.1])
    _make(tmp_path, llama(), llama() | {name: values})
    file = tmp_path / "delta" / "model.safetensors"
    said = json.loads(open_checkpoint(tmp_path / "delta").metadata[KEY])
    assert said["whole"] == [name]
    save_file(load(tmp_path / "delta"), file, metadata={KEY: json.dumps(said | {"whole": []})})
    apply(tmp_path / "base", tmp_path / "delta", tmp_path / "again")
    assert same_bits(load(tmp_path / "again")[name], values)
