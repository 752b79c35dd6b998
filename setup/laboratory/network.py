"""The lab's network: a namespace with a bridge and no way out, and the two ways into it."""

from __future__ import annotations

import os
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path

from laboratory.layout import BRIDGE, BRIDGE_ADDRESS, HOSTS, PREFIX, Places
from state.command import run
from state.errors import LxcGpuError


def create(place: Places) -> bool:
    """Make sure that namespace and bridge are there; tells whether something had to be made."""
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
    # The bridge joins the hosts; it routes for nobody, so there's no way out to look for.
    run([*inside(place), "sysctl", "-q", "-w", "net.ipv4.ip_forward=0"])
    return True


def remove(place: Places) -> None:
    """Remove the namespace, also one that a crash or reboot left half there."""
    if place.namespace_file.exists():
        run(["ip", "netns", "delete", place.namespace], check=False)
        with suppress(FileNotFoundError):
            place.namespace_file.unlink()


def inside(place: Places) -> list[str]:
    """What to put before a command so that it runs in the lab's network."""
    return ["nsenter", f"--net={place.namespace_file}", "--"]


def write_connect(place: Places) -> None:
    """Write the program that ssh and the forwarder use to reach a port in the lab."""
    cases = "\n".join(f"    {'|'.join(s.names)}) address={s.address} ;;" for s in HOSTS)
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


def write_ssh_config(place: Places) -> None:
    """Write what `ssh -F` needs to go from this machine to the lab's hosts."""
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


def start_forwarder(place: Places) -> str:
    """Forward a free port of this machine's loopback to iam's port 80; returns the address."""
    url = place.web_url.read_text().strip() if place.web_url.exists() else ""
    if url and _forwarder(place) is not None:
        return url
    wanted = int(url.rstrip("/").rpartition(":")[2]) if url else 0
    port = _free_port(wanted)
    record = _record(place)
    # The forwarder writes down who it is, number and start time, before it becomes socat.
    script = (
        'read -r line </proc/$$/stat; echo "$line" >"$1.new"; mv "$1.new" "$1"; shift; exec "$@"'
    )
    listen = f"TCP4-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork"
    log = place.folder / "forwarder.log"
    detach = 'exec "$@" </dev/null >"$0" 2>&1'
    run(
        [
            *("setsid", "--fork", "sh", "-c", detach, log),
            *("sh", "-c", script, "sh", record),
            *("socat", listen, "EXEC:./connect iam 80"),
        ],
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


def stop_forwarder(place: Places) -> None:
    """End the forwarder, if it is still the one that we started."""
    number = _forwarder(place)
    if number is not None:
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGTERM)
    with suppress(FileNotFoundError):
        _record(place).unlink()


def forwarder_runs(place: Places) -> bool:
    """Whether the forwarder to the web page runs."""
    return _forwarder(place) is not None


def _record(place: Places) -> Path:
    return place.runtime / "forwarder"


def _forwarder(place: Places) -> int | None:
    """The forwarder's process number; None if it is gone, or the number now is another's."""
    try:
        recorded = _identity(_record(place).read_text())
        current = _identity(Path(f"/proc/{recorded[0]}/stat").read_text())
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return None
    return int(recorded[0]) if recorded == current else None


def _identity(stat: str) -> tuple[str, str]:
    """Process number and start time from a line of /proc/N/stat."""
    return stat.split(" ", 1)[0], stat.rpartition(")")[2].split()[19]


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
