"""The programs that people and machines talk to: login shell, register, iam, root helper, lxc-gpu.

All but the command line `lxc-gpu` run on the system's bare Python and load little.
"""
