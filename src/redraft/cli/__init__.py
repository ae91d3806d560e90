"""The command line: one small file a verb. Heavy imports happen inside the verbs."""
