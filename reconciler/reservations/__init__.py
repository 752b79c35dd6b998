"""Whose GPUs until when: people's reservations on this server, and the rules for them."""
