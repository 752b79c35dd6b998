"""Which of the server's CPUs each container has: the machine, who gets which, and the kernel."""
