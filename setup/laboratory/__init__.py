"""The lab: real machines (LXC, systemd, sshd, slapd) on this one, for developers and tests."""
