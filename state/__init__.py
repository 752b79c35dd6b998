"""The desired state of a fleet: its files, its rules, its Git repository.

This package knows nothing of servers, shells or web pages; everything else imports it.
Importing it loads nothing: the login shell imports `state.errors` and `state.wire.messages` with
a bare system Python, so only the modules that need pydantic, ruamel.yaml or GitPython load them.
"""
