"""`lxc-gpu doctor` on the web machine: `python -m webui.doctor`, run as the web page's account.

What this can't read, the page can't read either. It prints its findings as JSON; `lxc-gpu doctor`
shows them together with those that need root. The checks change nothing.
"""
