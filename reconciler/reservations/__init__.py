"""Reservations of this server's GPUs, the rules for them, and who waits for free ones."""
