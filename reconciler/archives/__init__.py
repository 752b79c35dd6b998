"""Packs and unpacks whole file systems in their user's id map. Archives are never trusted."""
