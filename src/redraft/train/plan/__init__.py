"""What is shown in place of a run: its first examples, or an estimate of memory, hours and money."""
