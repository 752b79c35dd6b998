"""What the keys of servers and sysadmins open on the web machine, and nothing else."""
