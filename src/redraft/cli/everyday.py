"""The options that people use, of the commands with many: `--help` shows these, and `--help-all` all.

Commands that are not here show all they have.
"""

from __future__ import annotations

_MODEL = "model max_revisions check temperature max_tokens seed"
_TRAINING = "model_name_or_path lora qlora data_path output_dir learning_rate max_steps preview estimate"

_EVERYDAY = {
    "ask": f"json quiet critic recipe mode drafts system {_MODEL}",
    "chat": f"critic recipe mode drafts system {_MODEL}",
    "answer": f"out parallel quiet limit retry_failed recipe mode {_MODEL}",
    "serve": "models host port api_key_file parallel page model critic recipe mode max_revisions check",
    "mcp": "critic recipe mode model max_revisions check max_tokens",
    "eval": f"out parallel limit run_code as_json mode guided {_MODEL}",
    "judge": "out parallel questions retry_failed recipe way gold model temperature seed limit_usd price",
    "diagnose": "task records score run_code html as_json run out seeds limit model check max_revisions",
    "compare": "models tasks ways seeds samples limit parallel quiet run_code max_revisions temperature",
    "chains": f"out parallel limit estimate recipe gold first verify {_MODEL}",
    "instructions": "out parallel estimate recipe way count seeds language topic model temperature seed",
    "sft": f"{_TRAINING} format eval_data_path num_train_epochs gguf",
    "reward": f"{_TRAINING} eval_data_path num_train_epochs margin",
    "ppo": f"{_TRAINING} algorithm reward num_rollouts num_generations max_new_tokens init_kl_coef",
}


def everyday_options(command: str) -> frozenset[str]:
    """Return the names of the options that `--help` shows of a command; empty for all."""
    return frozenset(_EVERYDAY.get(command, "").split())
