"""setup/web-server: makes a machine the web machine (IAM), step by step, as often as you like."""

from __future__ import annotations

import argparse
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from installation import release, web_config, web_nginx
from installation.script import run_script
from installation.steps import CHECKOUT, ENVIRONMENT, Steps, ssh_host_key
from installation.web_config import CONFIG, KEPT, WEB_TOML
from reconciler.host import places
from state import command
from state.errors import LxcGpuError

PACKAGES = ("python3", "python3-venv", "git", "openssh-server", "openssh-client", "ca-certificates",
            *web_nginx.PACKAGES)  # fmt: skip
PIECES = CHECKOUT / "setup" / "web"
ACCOUNT = "lxc-gpu"
REPOSITORY = KEPT / "state.git"
KEYS = CONFIG / "keys"
SIGNING_KEY = KEYS / "signing"
NUDGE_KEY = KEYS / "nudge"
UNIT = Path("/etc/systemd/system/lxc-gpu-web.service")
HOLDS = UNIT.with_suffix(".socket")
"""The unit that listens for the page."""
SSHD_PIECE = Path("/etc/ssh/sshd_config.d/20-lxc-gpu-gate.conf")
PATIENCE = 30
"""Seconds that the page, and nginx, may take to start."""


def main() -> int:
    """Do what the command line asks for. The exit status."""
    options = _options()

    def work(steps: Steps) -> None:
        _refuse_gpu_server()
        if options.undo:
            _undo(steps, options.purge)
        elif options.packages:
            _packages(steps)
        else:
            _install(steps, options)
        steps.done()
        if not (options.undo or options.packages):
            _tell()

    return run_script("setup/web-server", "Web machine", work)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="setup/web-server",
        description="Makes this machine the web machine of lxc-gpu: the web page, the state "
        "repository and the gate to it. It can be repeated, and says what it changes.",
    )
    add = parser.add_argument
    add("--packages", action="store_true", help="install only packages and the Python environment")
    add("--undo", action="store_true", help="remove what this script installed; the state "
        "repository, the keys and the configuration are kept")  # fmt: skip
    add("--purge", action="store_true", help="with --undo: delete these as well")
    add("--admin-key", metavar="KEY", help="the first sysadmin's public ssh key")
    add("--admin-name", metavar="NAME", help="that sysadmin's name, e.g. 'Alice Smith'")
    web_config.add_options(parser)
    tls = parser.add_argument_group("TLS, by nginx in front of the page")
    tls.add_argument("--tls-certificate", metavar="FILE", type=Path)
    tls.add_argument("--tls-key", metavar="FILE", type=Path)
    tls.add_argument("--tls-self-signed", action="store_true", help="make a certificate here")
    options = parser.parse_args()
    if options.purge and not options.undo:
        parser.error("--purge needs --undo")
    if bool(options.tls_certificate) != bool(options.tls_key):
        parser.error("--tls-certificate and --tls-key have to be given together")
    if options.packages or options.undo:
        return options
    missing = [] if WEB_TOML.exists() else web_config.missing(options)
    if not REPOSITORY.exists():
        missing += [f for f, v in (("--admin-key", options.admin_key),
                                   ("--admin-name", options.admin_name)) if not v]  # fmt: skip
    if missing:
        parser.error(f"the first time, it needs {', '.join(missing)}")
    return options


def _refuse_gpu_server() -> None:
    """LxcGpuError on a GPU server, whose root must not have the keys of the state repository as
    well."""
    if places.SERVER_CONFIG.exists():
        raise LxcGpuError(
            "is-gpu-server",
            "This machine is a GPU server; the web page needs a machine of its own.",
            "A small virtual machine will do.",
        )


def _packages(steps: Steps) -> None:
    steps.packages(PACKAGES)
    steps.environment()


def _install(steps: Steps, options: argparse.Namespace) -> None:
    web_nginx.refuse_foreign_certificate(bool(options.tls_certificate or options.tls_self_signed))
    steps.begin()
    _packages(steps)
    web_nginx.refuse_broken()
    release.install(steps)
    new_code = steps.changes > 0
    _account(steps)
    signing = steps.ssh_key(SIGNING_KEY, f"lxc-gpu signing key of {socket.gethostname()}", ACCOUNT)
    steps.ssh_key(NUDGE_KEY, f"lxc-gpu nudge key of {socket.gethostname()}", ACCOUNT)
    not_punished = _repository(steps, options, signing)
    new_config = web_config.write(steps, options, ACCOUNT)
    _gate(steps, not_punished)
    new_units = [
        unit for unit in (HOLDS, UNIT) if steps.file(unit, (PIECES / unit.name).read_text())
    ]
    if new_units:
        command.run(["systemctl", "daemon-reload"])
    again = {unit.name for unit in new_units} | ({UNIT.name} if new_config or new_code else set())
    _running(steps, again)
    _in_front(steps, options)
    release.retire(steps)


def _account(steps: Steps) -> None:
    steps.service_account(ACCOUNT, KEPT, Path("/bin/sh"))
    entry = command.run(["getent", "shadow", ACCOUNT]).stdout.split(":")
    if entry[1].startswith("!"):  # "locked" would keep sshd from taking its keys, without PAM
        command.run(["usermod", "--password", "*", ACCOUNT])
    for folder, mode, owner in (
        (CONFIG, 0o755, "root"), (KEYS, 0o750, ACCOUNT), (KEPT, 0o755, ACCOUNT),
    ):  # fmt: skip
        steps.folder(folder, mode, owner)


def _repository(steps: Steps, options: argparse.Namespace, signing: str) -> list[str]:
    """Make the repository with hooks of this version. Return the addresses that the gate must not
    punish."""
    first = []
    if not REPOSITORY.exists():
        steps.say(f"make the state repository {REPOSITORY}")
        first = ["--admin-name", options.admin_name, "--admin-key", options.admin_key]
        first += ["--iam-key", signing, "--signing-key", str(SIGNING_KEY)]
    return _as_account("state-repository", REPOSITORY, *first).stdout.split()


def _gate(steps: Steps, not_punished: Sequence[str]) -> None:
    steps.sshd_piece(SSHD_PIECE, (PIECES / "sshd.conf").read_text(), not_punished)


def _running(steps: Steps, again: set[str]) -> None:
    """Start both units, and restart those in `again`, whose files changed.

    One command starts both: systemd doesn't open a socket for a running service, so the socket has
    to come between the stop and the start of the page.
    """
    start = set(again)
    for unit in (HOLDS.name, UNIT.name):
        if not command.run(["systemctl", "is-enabled", "--quiet", unit], check=False).ok:
            steps.say(f"enable {unit}")
            command.run(["systemctl", "enable", "--quiet", unit])
        active = command.run(["systemctl", "is-active", "--quiet", unit], check=False).ok
        if not active or unit in again:
            steps.say(f"{'restart' if active else 'start'} {unit}")
            start |= {unit, UNIT.name}
    if start:
        command.run(["systemctl", "restart", *sorted(start)])
        _wait_until_it_answers()


def _wait_until_it_answers() -> None:
    silent = LxcGpuError(
        "web-silent",
        f"{UNIT.name} was started, but does not answer at {web_nginx.SOCKET} within {PATIENCE} s.",
        f"`journalctl -u {UNIT.name}` says why.",
    )
    _wait_for(_answered, silent)


def _in_front(steps: Steps, options: argparse.Namespace) -> None:
    """Set up nginx, through which people reach the page."""
    new = web_nginx.certificate(
        steps, options.tls_certificate, options.tls_key, options.tls_self_signed
    )
    web_nginx.install(steps, new)
    host, port = web_config.listen().rsplit(":", 1)
    place = (host.strip("[]"), int(port)) if web_nginx.configured().plain else ("127.0.0.1", 443)
    silent = LxcGpuError(
        "nginx-silent",
        f"nginx has the page's site, but does not answer at {place[0]}:{place[1]}.",
        "`journalctl -u nginx` and /var/log/nginx/error.log say why: another program may have the "
        "port (`ss -ltnp`).",
    )
    _wait_for(lambda: _connected(place, socket.AF_INET6 if ":" in place[0] else socket.AF_INET),
              silent)  # fmt: skip


def _answered() -> None:
    """Whether the page itself answers: systemd alone accepts connections, too."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE)
        client.connect(str(web_nginx.SOCKET))
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        if not client.recv(1):
            raise ConnectionResetError


def _connected(place: object, family: int) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(1)
        client.connect(place)  # type: ignore[arg-type] # as the family wants it


def _wait_for(connect: Callable[[], None], silent: LxcGpuError) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with suppress(OSError):
            return connect()
        time.sleep(0.05)
    raise silent


def _tell() -> None:
    """Print what a GPU server's set-up needs to know of this machine, ready to paste."""
    host = web_config.public_name()
    nudge = " ".join(Path(f"{NUDGE_KEY}.pub").read_text().split()[:2])
    for warning in _warnings(web_nginx.configured()):
        print(f"\nWARNING: {warning}", file=sys.stderr)
    print(
        "\nOn each GPU server:\n\n"
        "  setup/gpu-server --name NAME \\\n"
        f"    --state ssh://{ACCOUNT}@{host}{REPOSITORY} \\\n"
        f"    --gate-host-key '{ssh_host_key()}' \\\n"
        f"    --iam-key '{nudge}' \\\n"
        f"    --trust {_newest()}\n"
        "\nSysadmins clone the state with:\n\n"
        f"  git clone ssh://{ACCOUNT}@{host}{REPOSITORY}\n"
    )


def _warnings(site: web_nginx.Site) -> Iterator[str]:
    if not site.tls and not site.behind_proxy and not web_config.is_loopback(site.listen):
        yield (
            f"nginx answers at {site.listen} without TLS: passwords cross the network readable. "
            "Use --tls-certificate and --tls-key, or --tls-self-signed to try it out."
        )
    if site.believed == web_nginx.EVERYBODY:
        yield (
            f"whoever reaches {site.listen} is believed about the address that a request comes\n"
            f'from. Name your proxy in {WEB_TOML}: proxies = ["ADDRESS"]; then run this again.'
        )


def _newest() -> str:
    """The newest revision in the repository on this machine."""
    words = ["runuser", "-u", ACCOUNT, "--", "git", "-C", str(REPOSITORY)]
    return command.run([*words, "rev-parse", "main"], env={"HOME": str(KEPT)}).stdout.strip()


def _as_account(executable: str, *words: str | Path) -> command.Finished:
    return command.run(
        ["runuser", "-u", ACCOUNT, "--", places.EXECUTABLES / executable, *words],
        env={"HOME": str(KEPT)},
        cwd=KEPT,
    )


def _undo(steps: Steps, purge: bool) -> None:
    units = [UNIT.name, HOLDS.name]
    command.run(["systemctl", "disable", "--now", "--quiet", *units], check=False)
    ours = [UNIT, HOLDS, web_nginx.SOCKET.parent, SSHD_PIECE, web_nginx.place(), web_nginx.OF_OLD,
            Path("/usr/local/bin/lxc-gpu"), *release.LINKS, ENVIRONMENT]  # fmt: skip
    kept = [REPOSITORY, KEPT / "web-clone", KEPT / "gate-clone", KEPT / "gate_keys", KEYS]
    kept += [*KEPT.glob("history.db*"), *KEPT.glob(".*-clone.flock")]
    kept += [web_nginx.TLS, WEB_TOML, web_config.LDAP_PASSWORD, web_config.LDAP_CA]
    for path in [*ours, *(kept if purge else [])]:
        steps.remove(path)
    command.run(["systemctl", "daemon-reload"], check=False)
    command.run(["systemctl", "reload-or-restart", "ssh"], check=False)
    if Path("/usr/sbin/nginx").exists():
        command.run(["systemctl", "reload-or-restart", "nginx"], check=False)
    if not purge:
        print(f"  kept: {REPOSITORY}, the account {ACCOUNT}, {CONFIG}; --purge deletes them")
        return
    for folder in (KEPT, web_nginx.OWN_PIECES, CONFIG):
        with suppress(OSError):  # it is not empty, or a disk of its own: left to the sysadmin
            folder.rmdir()
    if command.run(["getent", "passwd", ACCOUNT], check=False).ok:
        steps.say(f"delete the account {ACCOUNT}")
        command.run(["userdel", ACCOUNT])


if __name__ == "__main__":
    sys.exit(main())
