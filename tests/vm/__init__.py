"""Tests on a server with a kernel of its own: a lab whose gpu17 is a virtual machine."""

import tests.lab  # noqa: F401 # puts the lab's own modules, below setup/, on the path
