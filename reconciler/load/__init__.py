"""What this server is doing, read again and again: the `load` verb of the account iam."""
