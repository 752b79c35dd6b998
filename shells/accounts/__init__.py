"""What sshd runs for an account of the server: the login shell, register, iam."""
