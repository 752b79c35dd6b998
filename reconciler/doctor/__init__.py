"""`lxc-gpu doctor` on a GPU server: one module for each area, one small function for each check.

Nothing here changes anything. What a check makes of what it reads is pure, and tested on what real
machines printed.
"""
