"""Whether sshd lets people and services in: what is in effect, who may, where it listens."""
