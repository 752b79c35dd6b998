"""Checks where sshd listens, whether it answers, and which addresses it may punish."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from reconciler.doctor.server import COMMAND_LIMIT, CheckedServer, output
from reconciler.doctor.sshd import files
from reconciler.doctor.sshd.files import RELOAD, ConfigLine
from reconciler.host.config import not_punished
from state import command
from state.connections.penalties import may_be_punished
from state.errors import LxcGpuError
from state.wire.findings import Area, Finding

area = Area("sshd")
NO_LOGIN = (Path("/etc/nologin"), Path("/run/nologin"))
ANY = "0.0.0.0"  # noqa: S104 # compared only


def listens(server: CheckedServer) -> Iterator[Finding]:
    """Whether sshd is set to listen where people connect, and to punish no shared address."""
    if (view := server.view) is None:
        return
    shown, lines = output("sshd", "-T"), files.read()
    here = view.servers[view.server]
    if found := listening(shown, here.address, here.ssh_port, view.server, lines):
        yield found
    for file in filter(Path.exists, NO_LOGIN):
        yield area.wrong(
            f"{file} is there: nobody but root gets in (pam_nologin(8)).", f"rm {file}"
        )
    if changed := _changed_since(_read_at(), lines):
        yield area.note(
            f"{changed} was changed after sshd last read it: these findings will hold after a "
            "reload.",
            "sshd -t && systemctl reload ssh",
        )
    yield from punished(shown, not_punished(server.config, view))


def _read_at() -> int:
    """When sshd was started or last reloaded, in seconds since the epoch; 0 if unknown."""
    shown = output("systemctl", "show", "ssh", "-P", "StateChangeTimestamp", "--timestamp=unix")
    moment = shown.strip().removeprefix("@")
    return int(moment) if moment.isdecimal() else 0


def _changed_since(moment: int, lines: Sequence[ConfigLine]) -> str:
    """The file of sshd's configuration, or its folder of pieces, that is newer; empty if none."""
    for name in dict.fromkeys((*(line.file for line in lines), str(files.PIECES))):
        with suppress(FileNotFoundError):
            if moment and Path(name).stat().st_mtime >= moment + 1:
                return name
    return ""


def listening(
    shown: str, address: str, port: int, server: str, lines: Sequence[ConfigLine]
) -> Finding | None:
    """What is wrong with the addresses where sshd listens, by `sshd -T`. Pure."""
    where = re.findall(r"^listenaddress (\S+):(\d+)$", shown, re.M)
    ports = [int(number) for listening, number in where if listening in (ANY, address)]
    if not where or port in ports:
        return None
    listed = ", ".join(f"{listening}:{number}" for listening, number in where)
    text = (
        f"sshd is set to listen at {listed}, but people and the web page connect to "
        f"{address}, port {port}."
    )
    if ports:
        line = files.of_keyword(lines, "Port", [str(ports[0])])
        return area.wrong(
            text,
            f"Take `Port {ports[0]}` out of {line or 'its configuration'}; {RELOAD}. Or have "
            f"everybody connect there: `ssh_port: {ports[0]}` in servers/{server}.yaml; people "
            "save their ssh configuration again.",
        )
    line = next((line for line in lines if line.keyword == "listenaddress"), None)
    said = f"`ListenAddress {line.value}` ({line})" if line else "the ListenAddress lines"
    return area.wrong(text, f"Take {said} out, or add `ListenAddress {address}`; {RELOAD}")


def punished(shown: str, exempt: Iterable[str]) -> Iterator[Finding]:
    """Addresses shared by many people that sshd may punish for one person, by `sshd -T`. Pure."""
    if missing := may_be_punished(shown, exempt):
        yield area.note(
            f"sshd may punish {', '.join(missing[:5])} for what one person there did.",
            "Run `setup/gpu-server` again: it exempts the servers and lab_networks of the state.",
        )


def answers(server: CheckedServer) -> Iterator[Finding]:
    """Whether sshd answers where people connect, with the host key that they expect.

    ssh connects from here without a key: it should get as far as being refused.
    """
    view = server.view
    if view is None:
        return
    here = view.servers[view.server]
    with tempfile.NamedTemporaryFile("w", prefix="lxc-gpu") as known:
        known.write(f"{view.server} {here.host_key}\n")
        known.flush()
        options = {
            "BatchMode": "yes", "IdentityFile": "none", "IdentitiesOnly": "yes",
            "IdentityAgent": "none", "PreferredAuthentications": "publickey",
            "HostKeyAlias": view.server, "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": known.name, "GlobalKnownHostsFile": "/dev/null",
            "ConnectTimeout": "5", "Port": str(here.ssh_port),
        }  # fmt: skip
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        try:
            said = command.run(
                ["ssh", "-F", "none", *words, f"iam@{here.address}", "true"],
                check=False, timeout=COMMAND_LIMIT,
            ).stderr  # fmt: skip
        except LxcGpuError as error:
            said = error.message
    yield answer(said, f"{here.address}, port {here.ssh_port}", view.server)


def answer(said: str, place: str, server: str) -> Finding:
    """The finding, by what ssh said to a login as `iam` without a key. Pure."""
    last = (said.strip().splitlines() or ["no message"])[-1]
    if re.search(r"Permission denied \(publickey\)", said):
        return area.ok(f"answers at {place}, with the host key of the state")
    if "Permission denied" in said:
        return area.wrong(
            f"sshd at {place} offers iam other ways in than a key: {last}",
            "The findings above name what overrides our piece of its configuration.",
        )
    if "Host key verification failed" in said or "no matching host key type" in said:
        return area.wrong(
            f"What answers at {place} has another ssh host key than the state says: everybody's ssh"
            " refuses it, and so does the web page.",
            f"Compare servers/{server}.yaml with /etc/ssh/ssh_host_*_key.pub; HostKey in "
            "sshd_config says which of them sshd has.",
        )
    return area.wrong(
        f"sshd doesn't answer at {place}, where people connect: {last}",
        "systemctl status ssh; ss -ltnp says where it listens, iptables -S INPUT what is refused.",
    )
