"""Makes one GPU server as the state repository says: the plan, the round, the kinds.

Importing it loads nothing. The kinds need the standard library only, so that the root helper can
run them for one user with the system's bare Python.
"""
