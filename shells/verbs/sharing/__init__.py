"""Verbs by which people share GPUs: whose until when."""
