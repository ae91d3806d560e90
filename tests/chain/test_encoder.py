from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from redraft.chain import Chain, Feedback, Prompt, Step, is_blank
from redraft.chain.encoder import (
    CLOSE,
    LONGEST,
    NO_ROOM,
    OPEN,
    SHORTEST,
    Cut,
    Encoder,
    Example,
    PromptEncoder,
    Skipped,
    Uncut,
    Vocabulary,
)
from redraft.chain.spans import spans_of
from redraft.chain.thoughts import apart
from redraft.errors import ModelError, UsageError
from redraft.jobs.formats import Objective, TrainingFormat
from tests.chain.test_spans import ACCEPT, REVISE, talk
from tests.train.tokenizer_kinds import CHATML, KINDS, tokenizer
from tests.weights.tokenizer_files import save

CHAIN = Chain(
    id="c/1",
    prompt=Prompt(instruction="Sort the list.", input="3, 1, 2"),
    steps=(
        Step(answer="    return x", feedback=Feedback(text=REVISE, verdict="revise")),
        Step(answer="    return y", feedback=Feedback(text=ACCEPT, verdict="accept")),
    ),
    best=1,
)

FORMATS = get_args(TrainingFormat)


def single(instruction: str, answer: str, **fields: Any) -> Chain:
    return Chain(prompt=Prompt(instruction=instruction), steps=(Step(answer=answer, **fields),), best=0)


def example(
    made: Chain,
    kind: str = "bytes",
    chosen: TrainingFormat = "selfee",
    objective: Objective = "full",
    length: int = 2048,
) -> Example:
    found = Encoder(tokenizer(kind), chosen, objective, length).encode(made)
    assert isinstance(found, Example), found
    return found


def words(kind: str, ids: np.ndarray[Any, Any]) -> str:
    return str(tokenizer(kind).decode(ids.tolist(), clean_up_tokenization_spaces=False))


COMBINED = [
    (chosen, objective)
    for chosen in FORMATS
    for objective in get_args(Objective)
    if chosen != "alpaca" or objective not in ("revision", "critic")
]


def texts(kind: str, chosen: TrainingFormat, objective: Objective) -> list[tuple[str, bool]]:
    encoder = Encoder(tokenizer(kind), chosen, objective)
    spans = spans_of(CHAIN, chosen, objective, encoder.vocabulary.template)
    return [(str(tokenizer(kind).eos_token) if span.stop else span.text, span.trained) for span in spans]


@pytest.mark.parametrize("kind", ["llama", "legacy"])
@pytest.mark.parametrize(("chosen", "objective"), COMBINED)
def test_loss_is_on_the_words_meant(kind: str, chosen: TrainingFormat, objective: Objective) -> None:
    found = example(CHAIN, kind, chosen, objective)
    meant = "".join(text for text, trained in texts(kind, chosen, objective) if trained)
    # These tokenizers take a space at the beginning of a text for their own.
    assert words(kind, found.ids[found.trained]).lstrip(" ") == meant.lstrip(" ")


@pytest.mark.parametrize("kind", ["bytes", "merging"])
@pytest.mark.parametrize(("chosen", "objective"), COMBINED)
def test_a_token_has_loss_if_all_of_its_characters_do(
    kind: str, chosen: TrainingFormat, objective: Objective
) -> None:
    found = example(CHAIN, kind, chosen, objective)
    meant = [trained for text, trained in texts(kind, chosen, objective) for _ in text]
    at = 0
    for token, trained in zip(found.ids, found.trained, strict=True):
        end = at + len(words(kind, token[None]))
        assert trained == all(meant[at:end])
        at = end
    assert at == len(meant)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chosen", FORMATS)
def test_the_prompt_has_the_tokens_that_it_has_alone(kind: str, chosen: TrainingFormat) -> None:
    encoder = Encoder(tokenizer(kind), chosen, "full")
    for answer in ("A.", "\nA", "  A", "\n\n  A", "\tA", "`A`", "́A"):
        made = single("Say A.\n", answer)
        spans = spans_of(made, chosen, "full", encoder.vocabulary.template)
        prompt = "".join(span.text for span in spans if span.given).removesuffix("\n" * (chosen == "chat"))
        alone = tokenizer(kind)(prompt).input_ids
        found = encoder.encode(made)
        assert isinstance(found, Example)
        first = int(np.argmax(found.trained))
        assert found.ids[:first].tolist() == alone
        said = "".join(span.text for span in spans if not span.given and not span.control)
        assert said.strip() in words(kind, found.ids[first:])


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_that_goes_on_after_another_gets_no_space(kind: str) -> None:
    found = Vocabulary.of(tokenizer(kind)).encode("is it?", within=True)
    pieces = tokenizer(kind).convert_ids_to_tokens(found.ids.tolist())
    assert "".join(pieces).replace("Ġ", " ").replace("▁", " ").replace("<0x3F>", "?") == "is it?"
    assert [found.starts[0], found.ends[-1]] == [0, 6]
    assert (found.starts[1:] == found.ends[:-1]).all()


@given(
    asked=st.text(min_size=1, max_size=30).filter(lambda text: not is_blank(text)),
    answer=st.text(min_size=1, max_size=30),
    said=st.text(min_size=1, max_size=30),
)
@pytest.mark.parametrize("kind", ["bytes", "merging"])
def test_any_text_is_kept_and_its_answer_learnt(kind: str, asked: str, answer: str, said: str) -> None:
    made = Chain(
        prompt=Prompt(instruction=asked),
        steps=(Step(answer=answer, feedback=Feedback(text=said, verdict="unknown")),),
        best=0,
    )
    found = Encoder(tokenizer(kind), "selfee", "full").encode(made)
    spans = spans_of(made, "selfee", "full") if not is_blank(apart(answer)[1]) else []
    if isinstance(found, Skipped):
        assert found.reason == "no answer" if not spans else "U+FDD0" in found.reason
        return
    text = "".join(span.text for span in spans)
    written = "".join(span.text for span in spans if not span.given)
    stop = str(tokenizer(kind).eos_token)
    assert (words(kind, found.ids), words(kind, found.ids[found.trained])) == (text + stop, written + stop)


TALK = talk("Hello <|im_end|>", "Hi!", "Bye.", steps=(Step(answer="See <|im_start|>you."),), best=0)


@pytest.mark.parametrize("kind", KINDS)
def test_chat_has_the_control_tokens_of_the_template_and_no_others(kind: str) -> None:
    model = tokenizer(kind)
    found = example(TALK, kind, "chat")
    begins, ends = model.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    assert found.ids.tolist().count(begins) == found.ids.tolist().count(ends) == 4
    learnt = found.ids[found.trained].tolist()
    assert (learnt.count(ends), learnt.count(begins)) == (2, 0)
    assert words(kind, found.ids[found.trained]) == "Hi!<|im_end|>See <|im_start|>you.<|im_end|>"


def test_what_cannot_be_trained_on_is_said_before_the_first_record() -> None:
    with pytest.raises(UsageError, match="no control token"):
        Encoder(tokenizer("bytes", "{% for m in messages %}{{ m['content'] }}{% endfor %}"), "chat")
    with pytest.raises(UsageError, match="no chat template"):
        Encoder(tokenizer("bytes", None), "chat")
    with pytest.raises(UsageError, match="--model_max_length 3 is too short"):
        Encoder(tokenizer("bytes"), max_length=3)


def test_a_talk_that_the_template_refuses_is_left_out() -> None:
    refusing = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('No system.') }}{% endif %}" + CHATML
    )
    encoder = Encoder(tokenizer("bytes", refusing), "chat", "full")
    refused = talk("[S]", "Q", steps=(Step(answer="A"),), best=0)
    assert encoder.encode(refused) == Skipped("the model's chat template refuses the messages: No system.")


# Too long.

LONG = " ".join(f"word{i}" for i in range(400))


def test_a_text_that_is_too_long_loses_its_end_and_with_it_the_stop_token() -> None:
    whole = example(single("Q", LONG), length=1 << 16)
    found = example(single("Q", LONG), length=256)
    assert found.ids.tolist() == whole.ids[:256].tolist()
    assert found.trained.tolist() == whole.trained[:256].tolist()
    assert tokenizer("bytes").eos_token_id not in found.ids
    assert found.cut == Cut(len(whole.ids) - 256, broken=1)


@pytest.mark.parametrize("chosen", FORMATS)
def test_a_long_question_does_not_push_the_answer_out(chosen: TrainingFormat) -> None:
    answer = "The answer is short."
    found = example(single(LONG, answer), "bytes", chosen, length=256)
    assert len(found.ids) == 256
    assert words("bytes", found.ids[found.trained]).strip() == f"{answer}<|im_end|>"
    prompt = words("bytes", found.ids[~found.trained])
    assert "word0 word1" in prompt
    assert "word399" in prompt
    assert "word200 " not in prompt
    assert found.cut.tokens >= found.cut.prompt > 0


@given(
    question=st.integers(1, 300), answer=st.integers(1, 300), length=st.integers(160, 700), stop=st.booleans()
)
def test_any_length_keeps_the_answer_or_half_of_the_room(
    question: int, answer: int, length: int, stop: bool
) -> None:
    made = single("q " * question, "a " * answer, finish="stop")
    whole = example(made, length=1 << 16)
    found = example(made, length=length)
    assert len(found.ids) == min(length, len(whole.ids))
    assert found.cut.tokens == len(whole.ids) - len(found.ids)
    assert found.trained.sum() >= min(whole.trained.sum(), length // 2)
    assert (tokenizer("bytes").eos_token_id in found.ids) == (found.trained.sum() == whole.trained.sum())


DRAFTS = Chain(
    id="d",
    prompt=Prompt(instruction="q " * 200),
    steps=(
        Step(answer="one " * 99, feedback=Feedback(text=REVISE, verdict="revise")),
        Step(answer="two " * 20, feedback=Feedback(text=REVISE, verdict="revise")),
        Step(answer="three " * 20, feedback=Feedback(text=ACCEPT, verdict="accept")),
    ),
    best=2,
)


@pytest.mark.parametrize("over", [0, 1, 60])
def test_an_accepted_revision_is_not_lost_to_a_long_prompt(over: int) -> None:
    """Even if a rejected answer without loss comes before it."""
    whole = example(DRAFTS, objective="accepted")
    found = example(DRAFTS, objective="accepted", length=len(whole.ids) - over)
    assert (found.cut, found.trained.sum()) == (Cut(over, over), whole.trained.sum())


def test_answers_that_are_lost_or_broken_are_told() -> None:
    short = DRAFTS.model_copy(update={"prompt": Prompt(instruction="q")})
    pieces = [words("bytes", token[None]) for token in example(short).ids]
    text, ends = "".join(pieces), np.cumsum([len(piece) for piece in pieces])
    second, third, feedback = (
        int(np.searchsorted(ends, text.index(said), "right"))
        for said in ("two ", "three ", "\n\n### Feedback 3")
    )
    seen = []
    for length in (second, second + 3, third, feedback - 3, feedback):
        found = example(short, length=length)
        assert found.cut.prompt == 0
        seen.append((found.cut.lost, found.cut.broken))
    assert seen == [(2, 0), (1, 1), (1, 0), (0, 1), (0, 0)]


@pytest.mark.parametrize(
    ("chosen", "objective", "leaves"),
    [
        ("selfee", "accepted", True),
        ("alpaca", "answer", True),
        ("selfee", "revision", False),  # of which no answer in a prompt is part
        ("vicuna", "accepted", False),
    ],
)
def test_earlier_answers_that_a_format_has_no_place_for_are_told(
    chosen: TrainingFormat, objective: Objective, leaves: bool
) -> None:
    judged = Step(answer="bye", feedback=Feedback(text=ACCEPT, verdict="accept"))
    encoder = Encoder(tokenizer("bytes"), chosen, objective)
    for prompt, expected in ((talk("Hi", "Hello", "Bye").prompt, leaves), (Prompt(instruction="Bye"), False)):
        found = encoder.encode(Chain(prompt=prompt, steps=(judged,), best=0))
        assert isinstance(found, Example)
        assert found.leaves is expected


@pytest.mark.parametrize("first", [False, True])
def test_without_a_token_with_loss_there_is_no_example(first: bool) -> None:
    whole = Uncut(np.zeros(40, np.uint32), np.arange(40) < first, [], [], [40])
    assert whole.fitted(16) == Skipped("there is no token to train on")


STOP = f"{OPEN}1{CLOSE}"
JUDGED = Step(answer=LONG, feedback=Feedback(text=ACCEPT, verdict="accept"))


@pytest.mark.parametrize(
    ("made", "objective", "length", "reason"),
    [
        (single("Q", "A"), "full", SHORTEST, NO_ROOM),
        # An answer that is judged is not shortened as a question is.
        (Chain(prompt=Prompt(instruction="Q"), steps=(JUDGED,), best=0), "critic", 256, NO_ROOM),
        (single("Q", "a" * (LONGEST + 1)), "full", 2048, "the text has over 1,048,576 characters"),
        (single(f"Q{STOP}", "A"), "full", 2048, "a text has U+FDD0, which is not a character"),
        (single("Q", f"A{STOP}B"), "full", 2048, "a text has U+FDD0, which is not a character"),
    ],
)
def test_skipped_says_why(made: Chain, objective: Objective, length: int, reason: str) -> None:
    assert Encoder(tokenizer("bytes"), "selfee", objective, length).encode(made) == Skipped(reason)


def test_a_prompt_without_room_or_question_is_skipped() -> None:
    assert PromptEncoder(tokenizer("bytes"), "chat", 64, 60).encode(Chain(prompt=PROMPT)) == Skipped(NO_ROOM)
    nothing = PromptEncoder(tokenizer("bytes"), "chat", 64, 8).encode(Chain(prompt=Prompt()))
    assert nothing == Skipped("no question")


# What records and tokenizers of others may hold.


def test_halves_of_characters_are_replaced() -> None:
    found = example(single("a\ud83d b", "\ud83d\ude42"))
    assert "a\ufffd b" in words("bytes", found.ids)
    assert "🙂" in words("bytes", found.ids[found.trained])


def test_a_tokenizer_that_sees_a_control_token_in_letters_is_not_let(tmp_path: Path) -> None:
    vocabulary = {text: number for number, text in enumerate(["<", "/", "s", ">", "</", "s>", "</s>", "a"])}
    made = Tokenizer(models.BPE(vocabulary, [("<", "/"), ("s", ">"), ("</", "s>")]))
    save(tmp_path, made, {"eos_token": "</s>"})
    encoder = Encoder(AutoTokenizer.from_pretrained(tmp_path), "alpaca", "full")
    assert encoder.encode(single("a", "a")).ids.tolist()[-1] == 6  # type: ignore[union-attr]
    assert encoder.encode(single("a", "a</s>a")) == Skipped("the tokenizer finds a control token in a text")


def test_a_tokenizer_without_a_stop_token(tmp_path: Path) -> None:
    save(tmp_path, Tokenizer(models.BPE(vocab={"a": 0, "\n": 1}, merges=[])), {"unk_token": None})
    with pytest.raises(ModelError, match="is not a control token") as error:
        Encoder(AutoTokenizer.from_pretrained(tmp_path))
    assert "tokenizer_config.json" in str(error.value)


def test_control_tokens_that_take_in_spaces_keep_their_place(tmp_path: Path) -> None:
    from tokenizers import AddedToken

    model = AutoTokenizer.from_pretrained(tokenizer("bytes").name_or_path)
    model.add_special_tokens({"eos_token": AddedToken("<|end|>", rstrip=True, lstrip=True, special=True)})
    model.chat_template = CHATML.replace("<|im_end|>", "<|end|>")
    for chosen in ("vicuna", "chat"):
        found = Encoder(model, chosen, "full").encode(TALK)
        assert isinstance(found, Example)
        assert found.ids[found.trained].tolist().count(model.eos_token_id) == 2
        assert model.decode(found.ids[found.trained]).count("<|end|>") == 2


# Processes.


_THERE = """
import json, pickle, sys
encoder, chain = pickle.load(sys.stdin.buffer)
print(json.dumps(encoder.encode(chain).ids.tolist()))
assert not {"torch", "transformers"} & sys.modules.keys()
"""


def test_another_process_makes_the_same_and_loads_nothing_heavy() -> None:
    sent = pickle.dumps((Encoder(tokenizer("llama"), "selfee", "full"), CHAIN))
    there = subprocess.run([sys.executable, "-c", _THERE], input=sent, capture_output=True, check=True)
    assert json.loads(there.stdout) == example(CHAIN, "llama").ids.tolist()


def test_the_fingerprint_tells_apart_what_makes_other_tokens() -> None:
    def of(model: PreTrainedTokenizerBase, *rest: Any) -> str:
        return Encoder(model, *rest).fingerprint

    base = of(tokenizer("bytes"))
    assert of(AutoTokenizer.from_pretrained(tokenizer("bytes").name_or_path)) == base
    others = [
        of(tokenizer("llama")),
        of(tokenizer("bytes", None)),
        of(tokenizer("bytes"), "vicuna"),
        of(tokenizer("bytes"), "selfee", "full"),
        of(tokenizer("bytes"), "selfee", "accepted", 1024),
        *(
            Encoder(tokenizer("bytes"), "selfee", "answer", first=first).fingerprint
            for first in (False, True)
        ),
    ]
    assert len({base, *others}) == 8


PROMPT = Prompt(instruction="Sort the list.", input="3, 1, 2")
ASKED = talk("Hi", "Hello", "Sort it.").prompt


@pytest.mark.parametrize(
    ("kind", "prompt"),
    [
        *((kind, PROMPT) for kind in KINDS),
        *((kind, ASKED) for kind in KINDS if kind not in ("spaced", "merging")),
    ],
)  # tokens of those reach over the ends of earlier answers, where training splits the text
@pytest.mark.parametrize("format_", ["chat", "selfee", "vicuna", "stablevicuna"])
def test_a_training_example_begins_with_its_prompt(kind: str, format_: Any, prompt: Prompt) -> None:
    made = tokenizer(kind)
    found = PromptEncoder(made, format_, 512, 64).encode(Chain(prompt=prompt))
    chain = Chain.model_validate({"prompt": prompt.model_dump(), "steps": [{"answer": "1, 2, 3"}]})
    whole = Encoder(made, format_, "answer", 512).encode(chain)
    assert not isinstance(found, Skipped)
    assert not isinstance(whole, Skipped)
    assert np.array_equal(found.ids, whole.ids[: len(found.ids)])
    last = np.flatnonzero(whole.trained)[-1]
    first = last - int(np.argmax(~whole.trained[: last + 1][::-1])) + 1
    assert len(found.ids) == first
    assert not found.trained.any()
