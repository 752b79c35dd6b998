"""Verbs by which people share GPUs: whose until when, and who waits for free ones."""
