"""`lxc-gpu doctor` on the IAM machine: `python -m webui.doctor`, run as the web page's account.

So what it can't read, the page can't read. It prints its findings as JSON; `lxc-gpu doctor` shows
them, with those of its own that need root. Nothing here changes anything.
"""
