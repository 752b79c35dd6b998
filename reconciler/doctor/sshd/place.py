"""Where sshd listens, whether it answers there, and whose addresses it may punish."""

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
    """Whether sshd is to listen where people ask it, and punishes nobody for their neighbours."""
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
            f"{changed} was changed after sshd last read it: what is said here of sshd is to come.",
            "sshd -t && systemctl reload ssh",
        )
    yield from punished(shown, not_punished(server.config, view))


def _read_at() -> int:
    """The second in which sshd was started, or last told to reload; 0 if nobody knows."""
    shown = output("systemctl", "show", "ssh", "-P", "StateChangeTimestamp", "--timestamp=unix")
    moment = shown.strip().removeprefix("@")
    return int(moment) if moment.isdecimal() else 0


def _changed_since(moment: int, lines: Sequence[ConfigLine]) -> str:
    """A file of sshd's configuration, or the folder of pieces, that is newer; empty if none is."""
    for name in dict.fromkeys((*(line.file for line in lines), str(files.PIECES))):
        with suppress(FileNotFoundError):
            if moment and Path(name).stat().st_mtime >= moment + 1:
                return name
    return ""


def listening(
    shown: str, address: str, port: int, server: str, lines: Sequence[ConfigLine]
) -> Finding | None:
    """What is wrong with the places where sshd listens, by `sshd -T`. Pure."""
    where = re.findall(r"^listenaddress (\S+):(\d+)$", shown, re.M)
    ports = [int(number) for listening, number in where if listening in (ANY, address)]
    if not where or port in ports:
        return None
    listed = ", ".join(f"{listening}:{number}" for listening, number in where)
    text = f"sshd is to listen at {listed}: people and the web page ask {address}, port {port}."
    if ports:
        line = files.of_keyword(lines, "Port", [str(ports[0])])
        return area.wrong(
            text,
            f"Take `Port {ports[0]}` out of {line or 'its configuration'}; {RELOAD}. Or have "
            f"everybody ask there: `ssh_port: {ports[0]}` in servers/{server}.yaml; people save "
            "their ssh configuration again.",
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
    """Whether sshd answers where people ask it, with the host key that they expect.

    ssh without a key, from here: it gets as far as one does who has no right to come in.
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
    """What came of asking for `iam` without a key, by ssh's words. Pure."""
    last = (said.strip().splitlines() or ["no words"])[-1]
    if re.search(r"Permission denied \(publickey\)", said):
        return area.ok(f"answers at {place}, with the host key of the state")
    if "Permission denied" in said:
        return area.wrong(
            f"sshd at {place} doesn't ask iam for a key only: {last}",
            "What goes before our piece of its configuration is named above.",
        )
    if "Host key verification failed" in said or "no matching host key type" in said:
        return area.wrong(
            f"What answers at {place} has another ssh host key than the state says: everybody's ssh"
            " refuses it, and so does the web page.",
            f"Compare servers/{server}.yaml with /etc/ssh/ssh_host_*_key.pub; HostKey in "
            "sshd_config says which of them sshd has.",
        )
    return area.wrong(
        f"sshd doesn't answer at {place}, where people ask it: {last}",
        "systemctl status ssh; ss -ltnp says where it listens, iptables -S INPUT what is refused.",
    )
