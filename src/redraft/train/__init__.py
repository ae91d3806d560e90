"""Train models: supervised fine-tuning, reward models and PPO. The command is `redraft train`."""

LOG, SAMPLES = "log.jsonl", "samples.jsonl"  # files of a run in its output folder
