"""What people and machines talk to on a server: the login shell, register, iam, the root helper.

All but the command line `lxc-gpu` run with the system's bare Python and load nothing heavy.
"""
