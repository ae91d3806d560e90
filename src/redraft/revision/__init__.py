"""The loop: draft, criticise, revise, stop."""
