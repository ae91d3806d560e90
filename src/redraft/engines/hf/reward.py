"""Score answers with reward models, which give better answers a higher score at the last token.

A model is a transformers folder whose head `score` has one label, or a peft adapter with such a head. Texts
are formatted as in training (`redraft_reward` in the configuration), or else with the chat template.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

import torch
import transformers
from torch import Tensor

from redraft.chain import Prompt
from redraft.chain.encoder import PairEncoder
from redraft.engines.hf.batch import alike
from redraft.engines.hf.folders import folder_for
from redraft.engines.hf.load import CLOSED, load_tokenizer, loading, quiet, usual_dtype
from redraft.errors import ModelError, UsageError
from redraft.jobs.files import check_model_links
from redraft.jobs.formats import TrainingFormat
from redraft.weights.checkpoint import read_json

BATCH_TOKENS = 4096  # maximum tokens of a pass with several texts, including padding

_ONE = threading.Lock()  # one pass at a time, because each uses all processors
_ADAPTER = "adapter_config.json"
_FORMS = "A reward model is FOLDER, ADAPTER or BASE+ADAPTER. To make one: redraft train reward"


class RewardModel:
    """A reward model in memory, which several threads may use.

    Args:
        model: A classifier with a head `score` of one label, perhaps wrapped by peft.
    """

    def __init__(self, model: Any, encoder: PairEncoder, name: str) -> None:
        self.name, self._encoder = name, encoder
        self._model = model.get_base_model().eval() if hasattr(model, "get_base_model") else model.eval()

    @classmethod
    def load(cls, ref: str) -> RewardModel:
        """Load a reward model without running code in its folder. The last four models are cached."""
        base, adapter = _parts(ref)
        described = Path(ref).expanduser() if adapter is None else adapter
        state = tuple((str(each), each.stat().st_mtime_ns) for each in sorted(described.glob("*.json")))
        return _loaded(base, adapter, ref, state)

    def score(self, asked: Sequence[tuple[Prompt, str]]) -> list[float]:
        """Return a reward for each pair of a prompt and an answer.

        Raises:
            RecordError: A prompt is empty or too long, or the chat template refuses a prompt or answer.
        """
        texts = [self._encoder.read(prompt, answer).ids.astype("int64") for prompt, answer in asked]
        found = [0.0] * len(texts)
        for batch in alike([len(text) for text in texts], BATCH_TOKENS):
            with _ONE:
                rewards = self._rewards([torch.from_numpy(texts[number]) for number in batch])
            for number, reward in zip(batch, rewards.tolist(), strict=True):
                found[number] = reward
        return found

    @torch.inference_mode()
    def _rewards(self, texts: Sequence[Tensor]) -> Tensor:
        model, lengths = self._model, torch.tensor([len(text) for text in texts])
        ids = torch.nn.utils.rnn.pad_sequence(list(texts), batch_first=True)
        mask = torch.arange(ids.shape[1]) < lengths[:, None]
        hidden = model.base_model(
            input_ids=ids.to(model.device), attention_mask=mask.long().to(model.device), use_cache=False
        ).last_hidden_state
        last = hidden[torch.arange(len(texts)), (lengths - 1).to(model.device)]
        rewards: Tensor = model.score(last.float()).flatten().float().cpu()
        return rewards


def _parts(ref: str) -> tuple[str, Path | None]:
    path = Path(ref).expanduser()
    if (path / _ADAPTER).is_file():
        base = read_json(path / _ADAPTER).get("base_model_name_or_path")
        if not isinstance(base, str) or not base:
            raise ModelError(f"{path} does not name its base model.", hint=f"Name it: reward:BASE+{ref}")
        return base, path
    if path.is_dir():
        return ref, None
    base, plus, last = ref.rpartition("+")
    if plus and (Path(last).expanduser() / _ADAPTER).is_file():
        return base, Path(last).expanduser()
    raise UsageError(f"there is no reward model {ref!r:.120}.", hint=_FORMS)


@lru_cache(maxsize=4)
def _loaded(base: str, adapter: Path | None, ref: str, state: object) -> RewardModel:  # noqa: ARG001  (the key)
    folder = Path(folder_for(base))
    if not folder.is_dir():
        raise ModelError(f"{base}, the base of {ref}, is not on this machine.", hint=_FORMS)
    described = adapter or folder
    for each in (folder, described):
        check_model_links(each)
    config = read_json(described / (_ADAPTER if adapter else "config.json"))
    found = config.get("task_type") if adapter else ", ".join(map(str, config.get("architectures") or ()))
    if not str(found).endswith("SEQ_CLS" if adapter else "ForSequenceClassification"):
        raise ModelError(f"{described} is not a reward model: its kind is {found or 'unknown'}.", hint=_FORMS)
    if (labels := len(config.get("id2label") or "1")) != 1 and not adapter:
        raise ModelError(f"{described} has {labels} labels, but a reward model has one.", hint=_FORMS)
    note = config.get("redraft_reward") or {}
    form = note.get("format", "chat")
    length = note.get("max_length", config.get("max_position_embeddings") or 2048)
    if form not in get_args(TrainingFormat) or not isinstance(length, int):
        raise ModelError(f"the field redraft_reward of {described} is wrong: {note!r:.80}.", hint=_FORMS)
    with loading(f"the reward model {ref}", hint=_FORMS), quiet():
        tokenizer = load_tokenizer(described)
        encoder = PairEncoder(tokenizer, form, length)
        return RewardModel(_model(folder, adapter, len(tokenizer)), encoder, described.resolve().name)


def _model(folder: Path, adapter: Path | None, tokens: int) -> Any:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    config = transformers.AutoConfig.from_pretrained(folder, **CLOSED)
    loader: Any = transformers.AutoModelForSequenceClassification
    model, report = loader.from_pretrained(
        folder,
        num_labels=1,
        dtype=usual_dtype(config.dtype, device),
        use_safetensors=True,
        output_loading_info=True,
        **CLOSED,
    )
    missing = [name for name in report["missing_keys"] if adapter is None or not name.startswith("score.")]
    if missing or not isinstance(getattr(model, "score", None), torch.nn.Module):
        raise ModelError(f"{folder} has no {min(missing, default='head called score')}.", hint=_FORMS)
    if adapter is not None:
        from peft import PeftModel

        if model.get_input_embeddings().weight.shape[0] < tokens:  # a padding token was added
            model.resize_token_embeddings(tokens, mean_resizing=False)
        model.score.float()  # before the adapter's head is copied from it
        with warnings.catch_warnings():
            # peft 0.21 warns of redraft's fields, and reads a property that transformers 5.23 has renamed.
            warnings.filterwarnings("ignore", "Unexpected keyword arguments", UserWarning)
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
            model = PeftModel.from_pretrained(model, adapter)
        model.get_base_model().score.float()
    else:
        model.score.float()
    return model.to(device)
