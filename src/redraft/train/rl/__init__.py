"""Reinforcement learning: a policy writes answers, a reward judges them, and the policy learns from that."""
