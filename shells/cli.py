"""The sysadmin's command line, `lxc-gpu COMMAND`, and the hook that judges each push.

A push waits for the hook, so it runs without click, which takes a tenth of its time.
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import NoReturn

from shells.terminal import Terminal
from state.errors import LxcGpuError, no_package

HOOK = ["check", "--hook"]
"""What the pre-receive hook asks for."""


def main() -> None:
    """Run a command. Errors are printed for people, and the exit status is then 1."""
    try:
        _run(sys.argv[1:])
    except LxcGpuError as error:
        _fail(error)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and not _is_ours(error.name or ""):
            _fail(no_package(error.name))
        print(f"lxc-gpu: bug: {error!r}; LXC_GPU_DEBUG=1 shows where.", file=sys.stderr)
        if os.environ.get("LXC_GPU_DEBUG") or not sys.stderr.isatty():
            traceback.print_exc()
        sys.exit(1)


def _fail(error: LxcGpuError) -> NoReturn:
    Terminal().error(error)
    if error.details and os.environ.get("LXC_GPU_DEBUG"):
        print(error.details, file=sys.stderr)
    sys.exit(1)


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] in {"state", "reconciler", "shells", "webui"}


def _run(words: list[str]) -> None:
    if words == HOOK:
        from shells.commands.judging import judge_in_hook

        judge_in_hook()
    else:
        from shells.commands.group import group

        group(prog_name="lxc-gpu")
