"""Which keys open our accounts, and what was opened by keys that no longer do."""
