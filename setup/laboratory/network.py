"""The lab's network: a namespace with a bridge and no way out, and two ways in."""

from __future__ import annotations

import os
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path

from laboratory.layout import BRIDGE, BRIDGE_ADDRESS, PREFIX, LabPaths
from state.command import run
from state.errors import LxcGpuError

MARK = "LXC_GPU_LAB_FORWARDER"
"""The variable in a forwarder's environment that says which lab started it."""


def create(place: LabPaths) -> bool:
    """Make the namespace and the bridge if needed. Whether something had to be made."""
    if run(["ip", "-n", place.namespace, "address", "show", BRIDGE], check=False).ok:
        return False
    remove(place)
    run(["ip", "netns", "add", place.namespace])
    address = f"{BRIDGE_ADDRESS}/{PREFIX}"
    for words in (
        ["link", "set", "lo", "up"],
        ["link", "add", BRIDGE, "type", "bridge"],
        ["address", "add", address, "dev", BRIDGE],
        ["link", "set", BRIDGE, "up"],
    ):
        run(["ip", "-n", place.namespace, *words])
    # The bridge only joins the hosts. Nothing is routed, so there is no way out.
    run([*inside(place), "sysctl", "-q", "-w", "net.ipv4.ip_forward=0"])
    return True


def remove(place: LabPaths) -> None:
    """Remove the namespace, also one that a crash or reboot left half made."""
    if place.namespace_file.exists():
        run(["ip", "netns", "delete", place.namespace], check=False)
        with suppress(FileNotFoundError):
            place.namespace_file.unlink()


def inside(place: LabPaths) -> list[str]:
    """The words before a command that make it run in the lab's network."""
    return ["nsenter", f"--net={place.namespace_file}", "--"]


def write_connect(place: LabPaths) -> None:
    """Write the program that ssh and the forwarder use to reach a port in the lab."""
    cases = "\n".join(f"    {'|'.join(s.names)}) address={s.address} ;;" for s in place.specs)
    text = f"""#!/bin/sh
# connect HOST PORT: joins input and output to a port in the lab.
set -eu
[ "$(id -u)" = 0 ] || exec sudo -- "$0" "$@"
case $1 in
{cases}
    *) address=$1 ;;
esac
exec nsenter --net={place.namespace_file} socat -t 30 - "TCP:$address:$2"
"""
    place.connect.write_text(text)
    place.connect.chmod(0o755)


def write_ssh_config(place: LabPaths) -> None:
    """Write the ssh configuration that leads from this machine to the lab's hosts."""
    included = place.folder / "laptop.ssh_config"
    text = f"""# ssh -F {place.ssh_config} HOST: from this machine into the lab.
# What the web page hands out is saved beside this file, and comes first.
Include "{included}"
Host *
    ProxyCommand "{place.connect}" %h %p
    IdentityFile "{place.identity}"
    IdentitiesOnly yes
    UserKnownHostsFile "{place.known_hosts}" "{place.folder / "laptop.known_hosts"}"
    GlobalKnownHostsFile /dev/null
"""
    place.ssh_config.write_text(text)


def start_forwarder(place: LabPaths) -> str:
    """Forward a free port of this machine's loopback to iam's port 80; returns the address."""
    url = place.web_url.read_text().strip() if place.web_url.exists() else ""
    if url and forwarder_runs(place):
        return url
    stop_forwarder(place)
    port = _free_port(int(url.rstrip("/").rpartition(":")[2]) if url else 0)
    listen = f"TCP4-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork"
    log = place.folder / "forwarder.log"
    detach = 'exec "$@" </dev/null >"$0" 2>&1'
    run(
        [
            *("setsid", "--fork", "sh", "-c", detach, log),
            *("socat", listen, "EXEC:./connect iam 80"),
        ],
        env={MARK: place.id},
        cwd=place.folder,
    )
    deadline = time.monotonic() + 5
    while not _listening(port):
        if time.monotonic() > deadline:
            raise LxcGpuError(
                "lab-forwarder",
                f"The forwarder to the web page did not start on port {port}.",
                hint=f"See {log}.",
            )
        time.sleep(0.02)
    url = f"http://127.0.0.1:{port}/"
    place.web_url.write_text(url + "\n")
    return url


def stop_forwarder(place: LabPaths) -> None:
    """End the forwarder, and any that a killed run left."""
    for number in _forwarders(place):
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGTERM)


def forwarder_runs(place: LabPaths) -> bool:
    """Whether the forwarder to the web page runs."""
    return bool(_forwarders(place))


def _forwarders(place: LabPaths) -> list[int]:
    """The processes that this lab started, by the mark in their environment.

    A file of pids would lack those of a run that was killed before writing it.
    """
    mark = f"{MARK}={place.id}".encode()
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):  # the process ended meanwhile
            if mark in environment.read_bytes().split(b"\0"):
                found.append(int(environment.parent.name))
    return found


def _free_port(wanted: int) -> int:
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise LxcGpuError("lab-port", "No port of 127.0.0.1 is free.")


def _listening(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
