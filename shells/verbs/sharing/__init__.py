"""Verbs for sharing GPUs: reserving them, and waiting for free ones."""
