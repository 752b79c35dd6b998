"""Accounts on the server: the accounts, their ids, and what they may use."""
