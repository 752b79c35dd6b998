"""Packs and unpacks whole file systems, in their user's id map: nothing here trusts an archive."""
