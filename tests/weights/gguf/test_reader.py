from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.errors import ModelError
from redraft.weights.gguf import reader
from redraft.weights.gguf.reader import LongArray, check_adapter, check_model, read_header
from tests.gguf_files import gguf, lora, noise, text, tiny_model, value

META = {
    "general.architecture": "llama", "general.name": "small", "a.flag": True, "a.list": ["x", "y"], "n": 7,
}  # fmt: skip
TENSORS = {"one": noise((8, 4), 1.0), "two": noise((16,), 1.0)}


def written(tmp_path: Path, raw: bytes) -> Path:
    path = tmp_path / "m.gguf"
    path.write_bytes(raw)
    return path


def refused(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        read_header(path)
    return caught.value.message


def test_reads_what_a_file_says(tmp_path: Path) -> None:
    header = read_header(written(tmp_path, gguf(META, TENSORS)))
    assert dict(header.metadata) == {**META, "a.list": ("x", "y")}
    assert {name: t.shape for name, t in header.tensors.items()} == {"one": (8, 4), "two": (16,)}
    assert [(t.offset, t.size) for t in header.tensors.values()] == [(0, 128), (128, 64)]
    assert header.start + 192 == len(gguf(META, TENSORS))
    assert (header.text("general.name"), header.number("n")) == ("small", 7)
    assert (header.text("n"), header.number("a.flag"), header.text("nothing")) == (None, None, None)


@pytest.mark.parametrize("item", ["word", 3, 0.5, True])
def test_long_arrays_are_counted_or_read_where_they_are_asked_for(tmp_path: Path, item: object) -> None:
    path = written(tmp_path, gguf({"long": [item] * 1000, "after": "here"}))
    for whole, long in ((False, LongArray(1000)), (True, (item,) * 1000)):
        header = read_header(path, whole=whole)
        assert (header.metadata["long"], header.text("after")) == (long, "here")


@pytest.mark.model
def test_reads_the_default_model(default_model: Path) -> None:
    header = read_header(default_model)
    check_model(default_model, header)
    assert (header.text("general.architecture"), header.number("llama.context_length")) == ("llama", 8192)
    assert (header.metadata["tokenizer.ggml.tokens"], len(header.tensors)) == (LongArray(49152), 272)
    assert header.tensors["blk.0.attn_q.weight"].shape == (576, 576)
    assert all(tensor.size for tensor in header.tensors.values())


def test_what_is_no_such_file(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    assert refused(path) == f"there is no model file {path}."
    assert refused(tmp_path) == f"{tmp_path} is a folder, not a GGUF file."
    versions = "only versions 2 and 3, little endian, are supported."
    for raw, said in (
        (b"", f"the model file {path} is empty."),
        (b"PK\x03\x04 and so on", f"{path} is not a GGUF file: it begins with b'PK\\x03\\x04', not b'GGUF'."),
        (gguf(META, version=1), f"{path} has GGUF version 1; {versions}"),
        (b"GGUF\x00\x00\x00\x03" + bytes(16), f"{path} has GGUF version 50331648; {versions}"),
    ):
        assert refused(written(tmp_path, raw)) == said


def test_every_shorter_file_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, raw := gguf(META, TENSORS))
    os.truncate(path, len(raw) - 1)
    end = f"its tensors end at byte {len(raw)}, but the file has {len(raw) - 1}."
    assert refused(path) == f"{path} is truncated: {end}"
    for length in reversed(range(0, len(raw), 2)):
        os.truncate(path, length)
        refused(path)


@given(data=st.data())
def test_a_damaged_file_is_read_or_refused_and_nothing_else(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    raw = bytearray(gguf(META, TENSORS))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(4, len(raw) - 9))
        new = data.draw(st.binary(min_size=1, max_size=8))
        raw[at : at + len(new)] = new
    path = tmp_path_factory.getbasetemp() / "damaged.gguf"
    path.write_bytes(raw)
    try:
        header = read_header(path)
    except ModelError as error:
        assert str(path) in error.message  # noqa: PT017  (either outcome is right)
    else:
        assert len(header.tensors) <= 2


HUGE = 2**63
ONE, TWO = (gguf({})[:16] + struct.pack("<Q", keys) for keys in (1, 2))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (struct.pack("<QQ", 0, HUGE), f"{HUGE} metadata entries"),
        (struct.pack("<QQ", HUGE, 0), f"{HUGE} tensors"),
        (struct.pack("<QQ", 0, 1) + struct.pack("<Q", HUGE), f"{HUGE} bytes of text"),
        (struct.pack("<QQ", 0, 1) + text("k") + struct.pack("<IIQ", 9, 8, HUGE), f"{HUGE} array elements"),
        (struct.pack("<QQ", 0, 1) + text("k") + struct.pack("<IIQ", 9, 4, HUGE), f"{HUGE} array elements"),
    ],
)
def test_claims_beyond_the_file_cost_nothing(tmp_path: Path, body: bytes, said: str) -> None:
    message = refused(written(tmp_path, b"GGUF" + struct.pack("<I", 3) + body + bytes(64)))
    assert "is truncated: its header goes beyond the file's" in message
    assert said in message


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (ONE + text("k") + struct.pack("<I", 77) + bytes(64), "unknown type 77"),
        (ONE + text("k") + struct.pack("<IIQ", 9, 9, 1) + bytes(64), "unknown type 9"),
        (TWO + (text("k") + value(1)) * 2 + bytes(64), "the key 'k' appears twice"),
        (gguf({"general.alignment": 7}), "general.alignment is 7"),
        (gguf({"general.alignment": "x"}), "general.alignment is 'x'"),
        (gguf({"general.alignment": 256}, TENSORS) + bytes(512), "'two' is not aligned to 256 bytes"),
    ],
)
def test_odd_headers_are_named(tmp_path: Path, raw: bytes, said: str) -> None:
    message = refused(written(tmp_path, raw))
    assert "is not a valid GGUF file" in message
    assert said in message


def tensor_entry(name: str, shape: tuple[int, ...], kind: int, offset: int) -> bytes:
    head = text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape)
    return head + struct.pack("<IQ", kind, offset)


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([tensor_entry("t", (1, 1, 1, 1, 1), 0, 0)], "the tensor 't' has 5 dimensions"),
        ([tensor_entry("t", (31,), 8, 0)], "the tensor 't' has rows of 31, not a multiple of 32"),
        ([tensor_entry("t", (8,), 0, 0)] * 2, "two tensors have the same name"),
        ([tensor_entry("t", (16,), 0, 0), tensor_entry("u", (8,), 0, 32)], "the tensors 't' and 'u' overlap"),
        ([tensor_entry("t", (2**40, 2**40), 0, 0)], "is truncated: its tensors end at byte"),
        ([tensor_entry("t", (8,), 0, HUGE)], "is truncated: its tensors end at byte"),
    ],
)
def test_odd_tensors_are_named(tmp_path: Path, entries: list[bytes], said: str) -> None:
    raw = b"GGUF" + struct.pack("<IQQ", 3, len(entries), 0) + b"".join(entries) + bytes(256)
    assert said in refused(written(tmp_path, raw))


def misfit(adapter: Path, model: Path) -> str:
    with pytest.raises(ModelError) as caught:
        check_adapter(adapter, read_header(adapter), model, read_header(model))
    return caught.value.message


def test_an_adapter_that_fits(tmp_path: Path) -> None:
    model, adapter = tiny_model(tmp_path / "m.gguf"), lora(tmp_path / "a.gguf", size=(32, 32))
    check_adapter(adapter, read_header(adapter), model, read_header(model))
    up = lora(tmp_path / "up.gguf", tensor="blk.0.ffn_up.weight", size=(32, 64))
    check_adapter(up, read_header(up), model, read_header(model))


def test_an_adapter_for_another_model(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "m.gguf")
    other = f"does not fit the model {model}:"
    adapter = lora(tmp_path / "a.gguf", architecture="gemma3")
    assert (
        misfit(adapter, model)
        == f"the adapter {adapter} {other} it is for 'gemma3', but the model is 'llama'."
    )
    said = "'blk.0.attn_q.weight' is 576 × 576 in the adapter and 32 × 32 in the model."
    assert misfit(lora(tmp_path / "a.gguf"), model).endswith(f"{other} {said}")
    adapter = lora(tmp_path / "a.gguf", tensor="blk.9.attn_q.weight", size=(32, 32))
    said = "the model has no 'blk.9.attn_q.weight'."
    assert misfit(adapter, model).endswith(f"{other} {said}")


def test_what_is_no_adapter_and_what_is_no_model(tmp_path: Path) -> None:
    model, adapter = tiny_model(tmp_path / "m.gguf"), lora(tmp_path / "a.gguf")
    said = "is not a LoRA adapter: its general.type is None and its adapter.type None."
    assert misfit(model, model) == f"{model} {said}"
    with pytest.raises(ModelError, match="is an adapter, not a model"):
        check_model(adapter, read_header(adapter))
    empty = written(tmp_path, gguf(META))
    with pytest.raises(ModelError, match="contains no model: it has no tensors"):
        check_model(empty, read_header(empty))


# Long arrays, whole


def test_every_shorter_file_is_refused_whole(tmp_path: Path) -> None:
    path = written(tmp_path, raw := gguf({"long": ["ab"] * 300, "numbers": [1] * 300}))
    for length in reversed(range(0, len(raw) - 32, 21)):  # the end is padding
        os.truncate(path, length)
        with pytest.raises(ModelError):
            read_header(path, whole=True)


def test_what_is_kept_of_all_arrays_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, gguf({"one": ["ab"] * 300, "two": [1] * 300, "short": [1] * 10}))
    monkeypatch.setattr(reader, "MAX_ELEMENTS", 610)
    assert len(read_header(path, whole=True).metadata) == 3
    monkeypatch.setattr(reader, "MAX_ELEMENTS", 609)
    with pytest.raises(ModelError, match="its arrays have more than 609 elements"):
        read_header(path, whole=True)
    assert read_header(path).metadata["one"] == LongArray(300)
    monkeypatch.setattr(reader, "MAX_ELEMENTS", 9)
    with pytest.raises(ModelError, match="its arrays have more than 9 elements"):
        read_header(path)


def test_what_is_kept_of_all_texts_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, gguf({"one": ["ab"] * 300}))
    monkeypatch.setattr(reader, "MAX_TEXT", 603)
    assert len(read_header(path, whole=True).metadata["one"]) == 300
    monkeypatch.setattr(reader, "MAX_TEXT", 602)
    with pytest.raises(ModelError, match="too much text: 2 bytes here, and 603"):
        read_header(path, whole=True)
    assert read_header(path).metadata["one"] == LongArray(300)


def test_more_entries_than_any_file_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MAX_ENTRIES", 2)
    with pytest.raises(ModelError, match="it has 0 tensors and 3 keys"):
        read_header(written(tmp_path, gguf({"a": 1, "b": 2, "c": 3})))
    with pytest.raises(ModelError, match="it has 3 tensors and 1 keys"):
        read_header(written(tmp_path, gguf({"a": 1}, dict.fromkeys("abc", ((1,), [0.0])))))


def test_pipes_and_devices_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.gguf")
    (tmp_path / "zero.gguf").symlink_to("/dev/zero")
    for name in ("pipe.gguf", "zero.gguf"):
        assert refused(tmp_path / name) == f"{tmp_path / name} is not a regular file."
