"""Gives each container CPUs of the server: reads the machine, shares CPUs out, tells the kernel."""
