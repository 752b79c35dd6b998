"""Requests of one user: start, stop, a port, another system; and the sysadmin's purge."""
