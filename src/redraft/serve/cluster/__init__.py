"""Many machines: an existing Ray cluster runs what redraft does on one. Needs the extra `cluster`."""
