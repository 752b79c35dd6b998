"""The keys that open our accounts, and connections opened by keys that were removed."""
