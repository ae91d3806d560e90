"""Run the loop: draft, criticise, revise, stop."""
