from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, pre_tokenizers

from redraft.errors import ModelError
from redraft.weights.tokenizers.to_gguf import tokenizer_metadata
from tests.weights.tokenizer_files import (
    SPECIAL,
    TEXTS,
    byte_level,
    changed,
    ids,
    llama_cpp_ids,
    llama_like,
    load,
    model_file,
    save,
    sentencepiece_model,
    write,
)

ROWS = 720
CONTROL, USER_DEFINED, UNUSED = 3, 4, 5
# Where a text begins with a space, Metaspace adds none, and llama.cpp, SentencePiece and Prepend do.
NOT_SPACED = [text for text in TEXTS if not text.startswith(" ")]


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    byte_level(tmp_path, pre_tokenizers.ByteLevel(add_prefix_space=False))
    return tmp_path


@pytest.fixture
def selfee(tmp_path: Path) -> Path:
    sentencepiece_model(tmp_path)
    write(tmp_path, "added_tokens.json", {"[PAD]": 600})
    write(tmp_path, "special_tokens_map.json", {"pad_token": "[PAD]", "bos_token": {"content": "<s>"}})
    config = {"tokenizer_class": "LlamaTokenizer", "bos_token": "", "eos_token": "</s>", "unk_token": "<unk>"}
    write(tmp_path, "tokenizer_config.json", config)
    return tmp_path


def key(metadata: dict[str, Any], name: str) -> Any:
    return metadata[f"tokenizer.ggml.{name}"]


def test_byte_level_keys(plain: Path) -> None:
    tokenizer = load(plain)
    metadata = tokenizer_metadata(plain, ROWS)
    tokens, kinds = key(metadata, "tokens"), key(metadata, "token_type")
    assert key(metadata, "model") == "gpt2"
    assert {text: number for number, text in enumerate(tokens[:701])} == tokenizer.get_vocab()
    assert [tokens[701], tokens[719]] == ["[PAD701]", "[PAD719]"]
    assert (kinds[:3], tokens.index("<tool>")) == ([CONTROL] * 3, 700)
    assert (kinds[700:], set(kinds[3:700])) == ([USER_DEFINED] + [UNUSED] * 19, {1})
    assert (key(metadata, "bos_token_id"), key(metadata, "eos_token_id")) == (0, 2)
    assert "tokenizer.ggml.padding_token_id" not in metadata
    assert key(metadata, "add_bos_token") is False


def test_merges_are_written_in_order_from_both_forms(plain: Path) -> None:
    before = tokenizer_metadata(plain, ROWS)

    def join(value: Any) -> None:
        assert isinstance(value["model"]["merges"][0], list)
        value["model"]["merges"] = [" ".join(pair) for pair in value["model"]["merges"]]

    changed(plain, "tokenizer.json", join)
    assert tokenizer_metadata(plain, ROWS) == before


def test_a_name_for_an_empty_row_is_not_taken_twice(plain: Path) -> None:
    tokenizer = load(plain)
    tokenizer.add_tokens([AddedToken("[PAD702]", normalized=False)])
    save(plain, tokenizer)
    assert key(tokenizer_metadata(plain, 703), "tokens")[701:] == ["[PAD702]", "[PAD702]_"]


@pytest.mark.parametrize("with_json", [False, True])
def test_sentencepiece_ids_are_those_of_sentencepiece(selfee: Path, with_json: bool) -> None:
    import sentencepiece

    if with_json:
        from transformers import AutoTokenizer

        write(selfee, "config.json", {"model_type": "llama"})
        # Without being told, transformers 5 puts no <s> before a text where transformers 4 did.
        told = {"bos_token": "<s>", "add_bos_token": True}
        changed(selfee, "tokenizer_config.json", lambda value: {**value, **told})
        AutoTokenizer.from_pretrained(selfee).save_pretrained(selfee)
        assert (selfee / "tokenizer.json").exists()
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(selfee / "tokenizer.model"))
    metadata = tokenizer_metadata(selfee, 601)
    found = llama_cpp_ids(model_file(selfee / "m.gguf", metadata), TEXTS, special=True)
    assert found == [theirs.encode(text) for text in TEXTS]
    assert key(metadata, "scores")[:600] == [theirs.get_score(number) for number in range(600)]
    assert (key(metadata, "tokens")[600], key(metadata, "token_type")[:4]) == ("[PAD]", [2, 3, 3, 6])
    assert key(metadata, "token_type")[600] == CONTROL
    names = [f"{name}_token_id" for name in ("bos", "eos", "unknown", "padding")]
    assert [key(metadata, name) for name in names] == [1, 2, 0, 600]
    assert key(metadata, "add_bos_token") is True
    assert key(metadata, "add_space_prefix") is True


def test_control_tokens_in_a_text_count_where_they_may(selfee: Path) -> None:
    path = model_file(selfee / "m.gguf", tokenizer_metadata(selfee, 601))
    [found] = llama_cpp_ids(path, ["a</s>[PAD]"], special=True, start=True)
    assert (found[0], found[-2:]) == (1, [2, 600])
    [found] = llama_cpp_ids(path, ["a</s>[PAD]"])
    assert not {2, 600} & set(found)


@pytest.mark.parametrize(("prepend", "split"), [("first", True), ("always", False), ("never", False)])
def test_scores_from_the_order_of_merges(prepend: str, split: bool, tmp_path: Path) -> None:
    tokenizer = llama_like(tmp_path, prepend=prepend, split=split)
    metadata = tokenizer_metadata(tmp_path, tokenizer.get_vocab_size())
    texts = TEXTS if prepend == "never" else NOT_SPACED
    path = model_file(tmp_path / "m.gguf", metadata)
    assert llama_cpp_ids(path, texts, start=True) == ids(tokenizer, texts, start=True)
    assert key(metadata, "add_space_prefix") is (prepend != "never")
    sentencepiece_model(tmp_path)
    again = tokenizer_metadata(tmp_path, tokenizer.get_vocab_size())
    assert again == metadata, "the scores of another tokenizer.model are not taken"


@pytest.mark.parametrize("prepend", [True, False])
def test_the_older_way_to_write_spaces(prepend: bool, tmp_path: Path) -> None:
    llama_like(tmp_path)
    steps = [{"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]
    if prepend:
        steps.insert(0, {"type": "Prepend", "prepend": "▁"})
    change = {"normalizer": {"type": "Sequence", "normalizers": steps}, "pre_tokenizer": None}
    changed(tmp_path, "tokenizer.json", lambda value: {**value, **change})
    tokenizer = load(tmp_path)
    metadata = tokenizer_metadata(tmp_path, tokenizer.get_vocab_size())
    assert llama_cpp_ids(model_file(tmp_path / "m.gguf", metadata), TEXTS) == ids(tokenizer, TEXTS)


def test_an_added_token_stands_in_for_a_piece(selfee: Path) -> None:
    decoder = {"1": {"content": "<|bos|>", "special": True}, "600": {"content": "[PAD]", "special": True}}
    changed(selfee, "tokenizer_config.json", lambda value: {**value, "added_tokens_decoder": decoder})
    metadata = tokenizer_metadata(selfee, 601)
    assert key(metadata, "tokens")[:3] == ["<unk>", "<|bos|>", "</s>"]
    assert key(metadata, "token_type")[1] == CONTROL


def test_tokens_of_the_user_are_never_cut(tmp_path: Path) -> None:
    theirs = sentencepiece_model(tmp_path, user_defined_symbols=["<tool>", "▁▁"])
    path = model_file(tmp_path / "m.gguf", tokenizer_metadata(tmp_path, 600))
    texts = ["a<tool>b", "x   y    z"]
    # What follows such a token gets a space in llama.cpp, and none in SentencePiece.
    [first, second] = llama_cpp_ids(path, texts)
    assert theirs.piece_to_id("<tool>") in first
    assert second.count(theirs.piece_to_id("▁▁")) == theirs.encode(texts[1]).count(theirs.piece_to_id("▁▁"))


def around(first: str | None, last: str | None) -> dict[str, Any]:
    sequence = {"Sequence": {"id": "A", "type_id": 0}}
    parts = [{"SpecialToken": {"id": text, "type_id": 0}} for text in (first, last) if text]
    single = [*(parts[:1] if first else []), sequence, *(parts[-1:] if last else [])]
    return {"type": "TemplateProcessing", "single": single, "pair": single, "special_tokens": {}}


@pytest.mark.parametrize(
    ("processor", "told", "added"),
    [
        (None, {}, (False, False)),
        (around(SPECIAL[0], None), {}, (True, False)),
        (around(SPECIAL[0], SPECIAL[2]), {}, (True, True)),
        ({"type": "Sequence", "processors": [{}, around(SPECIAL[0], None)]}, {}, (True, False)),
        (around(SPECIAL[0], None), {"add_bos_token": False}, (False, False)),
        (None, {"add_bos_token": True, "add_eos_token": True}, (True, True)),
        (around(SPECIAL[0], None), {"bos_token": None}, (False, False)),
    ],
)
def test_what_is_put_around_a_text(processor: Any, told: Any, added: Any, plain: Path) -> None:
    changed(plain, "tokenizer.json", lambda value: {**value, "post_processor": processor})
    config = {"bos_token": SPECIAL[0], "eos_token": {"content": SPECIAL[2]}, **told}
    write(plain, "tokenizer_config.json", config)
    metadata = tokenizer_metadata(plain, ROWS)
    assert (key(metadata, "add_bos_token"), key(metadata, "add_eos_token")) == added


def test_another_first_token_is_refused(plain: Path) -> None:
    changed(plain, "tokenizer.json", lambda value: {**value, "post_processor": around(SPECIAL[1], None)})
    write(plain, "tokenizer_config.json", {"bos_token": SPECIAL[0]})
    with pytest.raises(ModelError, match="but that is not the bos token"):
        tokenizer_metadata(plain, ROWS)


def test_special_tokens_that_only_config_json_names(plain: Path) -> None:
    write(plain, "tokenizer_config.json", {})
    write(plain, "config.json", {"bos_token_id": 0, "eos_token_id": [2, 1], "pad_token_id": -1})
    metadata = tokenizer_metadata(plain, ROWS)
    assert (key(metadata, "bos_token_id"), key(metadata, "eos_token_id")) == (0, 2)
    assert "tokenizer.ggml.padding_token_id" not in metadata


def test_the_chat_template_is_found_where_it_is(plain: Path) -> None:
    assert "tokenizer.chat_template" not in tokenizer_metadata(plain, ROWS)
    write(plain, "chat_template.json", {"chat_template": "old"})
    assert tokenizer_metadata(plain, ROWS)["tokenizer.chat_template"] == "old"
    named = [{"name": "tools", "template": "no"}, {"name": "default", "template": "yes"}]
    changed(plain, "tokenizer_config.json", lambda value: {**value, "chat_template": named})
    assert tokenizer_metadata(plain, ROWS)["tokenizer.chat_template"] == "yes"
    (plain / "chat_template.jinja").write_text("{{ é }}\r\n", "utf-8", newline="")
    assert tokenizer_metadata(plain, ROWS)["tokenizer.chat_template"] == "{{ é }}\r\n"
    (plain / "chat_template.jinja").write_bytes(b"\xff")
    with pytest.raises(ModelError, match=r"chat_template\.jinja is not UTF-8: invalid start byte at byte 0"):
        tokenizer_metadata(plain, ROWS)


def test_a_folder_without_a_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"neither tokenizer\.json nor (.|\n)*save_pretrained"):
        tokenizer_metadata(tmp_path, ROWS)


def test_more_rows_than_any_vocabulary(plain: Path) -> None:
    with pytest.raises(ModelError, match="larger than any vocabulary"):
        tokenizer_metadata(plain, 1 << 40)


def model(**changes: Any) -> Callable[[Any], Any]:
    return lambda value: {**value, "model": {**value["model"], **changes}}


def vocabulary(**changes: Any) -> Callable[[Any], Any]:
    return lambda value: model(vocab={**value["model"]["vocab"], **changes})(value)


def without_a_byte(value: Any) -> None:
    del value["model"]["vocab"]["<0x0A>"]


def added(**token: Any) -> Callable[[Any], Any]:
    return lambda value: {**value, "added_tokens": [*value["added_tokens"], token]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda _: [1], "contains a list"), (model(type="Unigram"), "type 'Unigram', not BPE"),
        (model(vocab=[["a", 0.1]]), "not BPE"), (model(dropout=0.1), "has dropout 0.1"),
        (model(continuing_subword_prefix="##"), "has continuing_subword_prefix '##'"),
        (model(merges=[]), "has no merges"), (model(merges={"a": "b"}), "has no merges"),
        (model(merges=["a b c"]), "merge 'a b c', which is not two tokens"),
        (model(merges=[["a", 1]]), "which is not two tokens"),
        (model(merges=[["a b", "c"]]), "which is not two tokens"),
        (model(merges=[["a", "€€"]]), "merges 'a' and '€€', but one of the two, or the result, is not"),
        (vocabulary(new=3), "the id 3 is both"), (vocabulary(new=-1), "has the id -1"),
        (vocabulary(new=True), "with the id True"), (vocabulary(new=1.5), "with the id 1.5"),
        (vocabulary(new="7"), "with the id '7'"),
        (vocabulary(new=10**30), "the embedding has 720 rows(.|\n)*resized"),
        (vocabulary(**{"\ud800": 710}), "tokenizer.json has a lone surrogate, half of a character"),
        (added(id=5, content="<x>"), "the id 5 is both"),
        (added(id=715, content="!"), "'!' has two ids: 3 and 715"),
        (added(id=715, content=["<x>"]), "an added token"), (added(content="<x>"), "an added token"),
        (lambda value: {**value, "normalizer": {"type": "Lowercase"}}, "normalises texts"),
        (lambda value: {**value, "pre_tokenizer": {"type": "Whitespace"}}, "llama.cpp does not have"),
    ],
)  # fmt: skip
def test_bad_tokenizer_json(change: Callable[[Any], Any], said: str, plain: Path) -> None:
    changed(plain, "tokenizer.json", change)
    with pytest.raises(ModelError, match=said):
        tokenizer_metadata(plain, ROWS)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("tokenizer.json", "{", "is not JSON"),
        ("tokenizer.json", "[" * 100_000, "is not JSON"),
        ("tokenizer_config.json", "7", "contains a int"),
        ("added_tokens.json", '{"<x>": "7"}', "an added token is '<x>' with the id '7'"),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"x": {"content": "<x>"}}}', "with the id None"),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"9": 5}}', "an added token is None"),
        *(
            (name, r'{"chat_template": "\ud800"}', f"{name} has a lone surrogate, half of a character")
            for name in ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
        ),
    ],
)
def test_bad_files_beside_it(name: str, text: str, said: str, plain: Path) -> None:
    (plain / name).write_text(text, "utf-8")
    with pytest.raises(ModelError, match=said):
        tokenizer_metadata(plain, ROWS)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (model(ignore_merges=True), "has ignore_merges"),
        (lambda value: {**value, "pre_tokenizer": None}, "treats spaces"),
        (lambda value: {**value, "normalizer": {"type": "NFKC"}}, "treats spaces"),
        (without_a_byte, "1 of the 256 byte tokens"),
        (vocabulary(**{"qu▁x": 650}), "treats spaces"),
        (vocabulary(ququ=650, qu=651), "never makes the token 'ququ'"),
        (vocabulary(**{"x" * 2000: 650}), "has 2000 characters"),
    ],
)
def test_bad_sentencepiece_json(change: Callable[[Any], Any], said: str, tmp_path: Path) -> None:
    llama_like(tmp_path, split=True)
    changed(tmp_path, "tokenizer.json", change)
    with pytest.raises(ModelError, match=said):
        tokenizer_metadata(tmp_path, ROWS)


def test_a_model_that_changes_texts_is_refused(tmp_path: Path) -> None:
    sentencepiece_model(tmp_path, normalization_rule_name="nmt_nfkc")
    with pytest.raises(ModelError, match=r"tokenizer\.model normalises texts"):
        tokenizer_metadata(tmp_path, 600)


def test_added_tokens_that_a_later_file_repeats(plain: Path) -> None:
    before = tokenizer_metadata(plain, ROWS)
    decoder = {"700": {"content": "<tool>", "special": True}}
    changed(plain, "tokenizer_config.json", lambda value: {**value, "added_tokens_decoder": decoder})
    write(plain, "added_tokens.json", {"<tool>": 700})
    assert tokenizer_metadata(plain, ROWS) == before
