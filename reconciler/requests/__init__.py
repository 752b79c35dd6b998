"""What one person asked for: start, stop, a port, another system; and purge, by the sysadmin."""
