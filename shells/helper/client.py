"""Asks the root helper over its socket, and passes on what it says on the way."""

from __future__ import annotations

import socket
from collections.abc import Callable

from reconciler.host.places import ROOT_SOCKET
from shells.helper.request import Request, encode
from state.errors import LxcGpuError, Remedy
from state.wire import messages

Show = Callable[[messages.Progress], None]


def ask(
    request: Request, show: Show, descriptor: int | None = None
) -> messages.Answer | messages.Question | messages.Report:
    """The end of the answer; progress goes to `show`. LxcGpuError if it was refused or failed.

    `descriptor` goes along with the request.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.connect(str(ROOT_SOCKET))
        except OSError as error:
            raise LxcGpuError(
                "helper-down",
                "The part of lxc-gpu that does the work on this server can't be reached.",
                "Sysadmin: `systemctl status lxc-gpu-root.socket`.",
                Remedy.WAIT,
                str(error),
            ) from error
        socket.send_fds(connection, [encode(request)], [] if descriptor is None else [descriptor])
        with connection.makefile("rb") as stream:
            while line := stream.readline(messages.LONGEST_LINE):
                message = messages.decode(line)
                if isinstance(message, messages.Progress):
                    show(message)
                elif isinstance(message, messages.Refusal):
                    raise message.error()
                else:
                    return message
    raise LxcGpuError(
        "helper-died",
        "The work on this server ended without an answer.",
        "Try again; sysadmin: `journalctl -t lxc-gpu` says why.",
        Remedy.RETRY,
    )
