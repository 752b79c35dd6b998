"""The monitor: who is using what, now and lately."""
