"""setup/gpu-server: makes a machine a GPU server, step by step, as often as you like."""

from __future__ import annotations

import argparse
import re
import sys
from contextlib import suppress
from pathlib import Path

from installation import gpu_kernel, gpu_units, release
from installation.script import run_script
from installation.steps import CHECKOUT, Steps, ssh_host_key
from reconciler.disk.removal import remove_tree
from reconciler.host import marker, places
from reconciler.host.config import not_punished, read_server_config
from reconciler.host.published import published_view
from state import command
from state.errors import LxcGpuError
from state.files import write_file

PACKAGES = (
    "python3", "python3-venv", "git", "openssh-server", "openssh-client", "lxc", "uidmap", "lxcfs",
    "libpam-systemd", "iproute2", "iptables", "nftables", "zstd", "acl", "util-linux",
)  # fmt: skip
SSHD_PIECE = Path("/etc/ssh/sshd_config.d/20-lxc-gpu.conf")
TMPFILES = Path("/etc/tmpfiles.d/lxc-gpu.conf")
AUTH_FILES = "/tmp/sshauth.*"  # noqa: S108
"""Files in which sshd notes a connection's key (`state.connections`). Debian 13 removes files in
/tmp after ten days; without its file, a connection would be ended, because its key isn't known."""
SERVICES = ("register", "iam")
NO_SHELL = Path("/usr/sbin/nologin")
SHELL_FOR_SERVICES = Path("/bin/sh")
"""The shell that runs the forced commands of the service accounts, which have no password."""


def main() -> int:
    """Do what the command line asks for. The exit status."""
    options = _options()

    def work(steps: Steps) -> None:
        if options.undo:
            _undo(steps)
        elif options.packages:
            _packages(steps)
        else:
            _server(steps, options)
        steps.done()

    return run_script("setup/gpu-server", "GPU server", work)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="setup/gpu-server",
        description="Makes this machine a GPU server of lxc-gpu. "
        "It can be repeated, and says what it changes.",
    )
    parser.add_argument(
        "--packages", action="store_true", help="install only packages and the Python environment"
    )
    parser.add_argument("--undo", action="store_true", help="remove what this script "
                        "installed; accounts, containers and homes are kept")  # fmt: skip
    parser.add_argument("--name", help="this server's name in the state repository, e.g. gpu17")
    parser.add_argument("--state", metavar="URL", help="the state repository, "
                        "e.g. ssh://lxc-gpu@iam.mylab.com/var/lib/lxc-gpu/state.git")  # fmt: skip
    parser.add_argument("--gate", metavar="ACCOUNT@HOST",
                        help="the web machine's gate; default: from --state")  # fmt: skip
    parser.add_argument(
        "--gate-host-key", metavar="KEY", help="the ssh host key of the gate's machine"
    )
    parser.add_argument("--state-host-key", metavar="KEY", help="the ssh host key of the "
                        "machine in --state, if that isn't the gate's (a forge)")  # fmt: skip
    parser.add_argument("--iam-key", metavar="KEY", help="the web page's public key for nudges")
    parser.add_argument("--trust", metavar="REVISION", type=_full_id,
                        help="the revision of the state that you vouch for; every later commit "
                        "has to be signed")  # fmt: skip
    parser.add_argument("--new-systems", action="store_true",
                        help="take the containers' folder as this server's; users without a "
                        "container in it begin anew")  # fmt: skip
    parser.add_argument("--address", help="this server's address; default: that of its name")
    options = parser.parse_args()
    wanted = ("name", "state", "gate_host_key", "iam_key")
    missing = [f"--{name.replace('_', '-')}" for name in wanted if not getattr(options, name)]
    if options.packages or options.undo:
        return options
    if missing and not places.SERVER_CONFIG.exists():
        parser.error(f"the first time, it needs {', '.join(missing)}")
    if missing and (options.gate or len(missing) < len(wanted)):
        parser.error(f"these go together, as setup/web-server prints them: {', '.join(missing)}")
    return options


def _full_id(text: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{40}([0-9a-f]{24})?", text, re.ASCII):
        raise argparse.ArgumentTypeError("give the full id: git rev-parse origin/main")
    return text


def _packages(steps: Steps) -> None:
    steps.packages(PACKAGES)
    gpu_units.mask_unused(steps)
    steps.environment()


def _server(steps: Steps, options: argparse.Namespace) -> None:
    steps.begin()
    _packages(steps)
    _require_pam()
    release.install(steps)
    new_code = steps.changes > 0
    _folders(steps)
    _adopt(steps)
    steps.group(places.USERS_GROUP)
    for account in SERVICES:
        steps.service_account(account, Path("/"), SHELL_FOR_SERVICES)
    steps.service_account(places.SPARES_ACCOUNT, Path("/"), NO_SHELL)
    own_key = steps.ssh_key(places.STATE_KEY, f"state@{options.name or 'server'}")
    if options.name:
        _configuration(steps, options)
    if options.trust:
        _trust(steps, options.trust)
    gpu_units.install(steps, SERVICES)
    if new_code:
        places.ROUND_SINCE_BOOT.unlink(missing_ok=True)  # what an upgrade changes is not drift
        gpu_units.restart()
    _sshd(steps)
    gpu_kernel.install(steps)
    release.retire(steps)
    if options.name:
        _print_server_file(options, own_key)
    _containers(steps, anew=options.new_systems)


def _trust(steps: Steps, revision: str) -> None:
    """Note where to begin. Written even if it stands there: no round overwrites a newer note."""
    steps.say(f"write {places.TRUSTED}")
    write_file(places.TRUSTED, f"{revision}\n")


def _folders(steps: Steps) -> None:
    for folder, mode in (
        (places.CONFIG, 0o755), (places.STATE_KEY.parent, 0o700), (places.AUTHORIZED_KEYS, 0o755),
        (places.KEPT, 0o711), (places.HOST_KEYS, 0o700), (places.TEMPLATES, 0o755),
        (places.RUNNING, 0o700), (places.MADE, 0o700),
        (places.CHOSEN, 0o700),
        (places.RUN, 0o755),
    ):  # fmt: skip
        steps.folder(folder, mode)
    steps.file(TMPFILES, f"d {places.RUN} 0755 root root\nx {AUTH_FILES}\n")


def _adopt(steps: Steps) -> None:
    """Adapt what the previous release left to the one that is in use now."""
    if places.SERVER_CONFIG.exists():
        for words in command.run([release.COMMAND, "adopt"], timeout=300).stdout.splitlines():
            steps.say(words)


def _containers(steps: Steps, *, anew: bool) -> None:
    """Mark the containers' folder of a server with containers from before there were markers.

    On a new server the first round marks it: only then the folder is known.
    """
    view = published_view()
    if view is None:
        if anew:
            raise LxcGpuError(
                "no-view",
                "No round has ended here yet, so the containers' folder isn't known.",
                "Run `lxc-gpu reconcile`, then this again.",
            )
        return
    if anew:
        steps.say(f"take {view.containers} as it is; users without a container there begin anew")
    elif not marker.check(view):
        steps.say(f"mark {view.containers} as the folder of {view.server}'s containers")
    else:
        return
    marker.mark(view, anew=anew)


def _configuration(steps: Steps, options: argparse.Namespace) -> None:
    account, state_host = state_machine(options.state)
    gate = options.gate or f"{account}@{state_host.strip('[').split(']')[0]}"
    text = (
        "# Written by setup/gpu-server.\n"
        f'name = "{options.name}"\nstate_url = "{options.state}"\ngate = "{gate}"\n'
    )
    steps.file(places.SERVER_CONFIG, text)
    pinned = {gate.rsplit("@", 1)[-1]: options.gate_host_key}
    if options.state_host_key:
        pinned[state_host] = options.state_host_key
    pinned.setdefault(state_host, options.gate_host_key)
    lines = "".join(f"{machine} {key}\n" for machine, key in pinned.items())
    steps.file(places.STATE_KNOWN_HOSTS, lines)
    nudge = f'restrict,command="{places.EXECUTABLES / "iam"}" {options.iam_key}\n'
    steps.file(places.AUTHORIZED_KEYS / "iam", nudge)


def state_machine(url: str) -> tuple[str, str]:
    """The account and the machine in a repository's address, the machine as in known_hosts(5).

    It takes both forms of git(1): ssh://ACCOUNT@HOST:PORT/PATH and ACCOUNT@HOST:PATH. LxcGpuError
    for any other.
    """
    match = re.fullmatch(r"ssh://([^@/]+)@([^:/@]+)(?::(\d+))?/.+|([^@/:]+)@([^:/@]+):.+", url)
    if match is None:
        raise LxcGpuError(
            "state-url",
            f"{url} is not the address of a repository that a server can fetch by ssh.",
            "Write ssh://ACCOUNT@HOST/PATH or ACCOUNT@HOST:PATH.",
        )
    account, host, port = match[1] or match[4], match[2] or match[5], match[3]
    return account, host if port in (None, "22") else f"[{host}]:{port}"


def _require_pam() -> None:
    """LxcGpuError if sshd doesn't use PAM: accounts without a password then count as locked
    (sshd(8))."""
    if "usepam no" in command.run(["sshd", "-T"], check=False).stdout.splitlines():
        raise LxcGpuError(
            "sshd-without-pam",
            "sshd runs here with `UsePAM no`: it would refuse accounts without a password.",
            "Set `UsePAM yes`, Debian's default, in /etc/ssh/sshd_config, and run this again.",
        )


def _sshd(steps: Steps) -> None:
    piece = (CHECKOUT / "setup" / "sshd" / "lxc-gpu.conf").read_text()
    steps.sshd_piece(SSHD_PIECE, piece, not_punished(read_server_config(), published_view()))


def _print_server_file(options: argparse.Namespace, own_key: str) -> None:
    address = options.address or _address_of(options.name)
    print(f"\nThe file servers/{options.name}.yaml for the state repository:\n", file=sys.stderr)
    print(f"address: {address}\nhost_key: {ssh_host_key()}\nstate_key: {own_key}")


def _address_of(name: str) -> str:
    found = command.run(["getent", "ahostsv4", name], check=False).stdout.split()
    return found[0] if found else "ADDRESS"


def _undo(steps: Steps) -> None:
    gpu_units.undo(steps)
    ours = (places.MOUNTS, places.OLD_HOMES, places.SYSTEMS, places.DEVICES)
    for mount in sorted(mount for folder in ours for mount in folder.glob("*")):
        steps.say(f"unmount {mount}")
        command.run(["umount", "--lazy", mount], check=False)
    _undo_spares(steps)
    gpu_kernel.undo(steps)
    for path in (SSHD_PIECE, TMPFILES, Path("/usr/local/bin/lxc-gpu"),
                 *release.LINKS, Path("/opt/lxc-gpu")):  # fmt: skip
        steps.remove(path)
    command.run(["systemctl", "reload", "ssh"], check=False)
    print("  kept: the users' accounts, homes and containers, /etc/lxc-gpu, /var/lib/lxc-gpu;\n"
          "  kernel settings, and which CPUs containers see, until the next boot")  # fmt: skip


def _undo_spares(steps: Steps) -> None:
    """Remove spare systems: they are nobody's, and contain set-uid programs of root."""
    with suppress(LxcGpuError):  # it is another server's disk, or there is none
        view = published_view()
        if view is None or not marker.check(view):
            return
        store = Path(view.containers) / places.STORE
        if store.is_dir():
            steps.say(f"remove {store}")
            remove_tree(store)


if __name__ == "__main__":
    sys.exit(main())
