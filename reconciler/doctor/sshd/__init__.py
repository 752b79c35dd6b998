"""Checks whether sshd lets people and services in: its settings, its lists, where it listens."""
