"""Accounts on the server: the accounts themselves, their numbers, what they may use."""
