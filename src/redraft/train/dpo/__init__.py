"""DPO: preferences without a reward model, with the loss of TRL."""
