"""setup/gpu-server: makes a machine a GPU server, step by step, as often as you like."""

from __future__ import annotations

import argparse
import pwd
import re
import sys
from contextlib import suppress
from pathlib import Path

from installation import release
from installation.script import run_script
from installation.steps import CHECKOUT, Steps, ssh_host_key
from reconciler.container import modules
from reconciler.container.apparmor import PROFILES, Confinement, confinement
from reconciler.disk.removal import remove_tree
from reconciler.host import kernel_settings, marker, places, slices
from reconciler.host.config import not_punished, read_server_config
from reconciler.host.published import published_view
from state import command
from state.errors import LxcGpuError
from state.files import read_text, write_file

PACKAGES = (
    "python3", "python3-venv", "git", "openssh-server", "openssh-client", "lxc", "uidmap", "lxcfs",
    "libpam-systemd", "iproute2", "iptables", "nftables", "zstd", "acl", "util-linux",
)  # fmt: skip
UNUSED_UNITS = ("lxc.service", "lxc-net.service", "lxc-monitord.service")
"""Units of the package lxc that would make a bridge, and start containers that aren't lxc-gpu's."""
ENABLED_UNITS = (
    "lxc-gpu-root.socket", "lxc-gpu-reconcile.timer", "lxc-gpu-watch.service",
    "lxc-gpu-idleness.timer", "lxc-gpu-snapshots.timer", "lxc-gpu-announced.timer",
    "lxc-gpu-reservations.timer", "lxc-gpu-loaded.service",
)  # fmt: skip
LOADED = ("lxc-gpu-watch.service", "lxc-gpu-loaded.service")
"""Services that keep their code loaded."""
COUNTING = ("lxc-gpu-announced.timer",)
"""A timer that counts from the end of its service, which never ended if an older release skipped
it."""
AT_WORK = ("lxc-gpu-spares.service", "lxc-gpu-snapshots.service")
"""Services that may be running just now, and would go on without their code."""
AT_BOOT = ("lxc-gpu-come-back.service", "lxcfs.service")
"""Units that are enabled, but not started now."""
UNIT_FOLDER = Path("/etc/systemd/system")
SSHD_PIECE = Path("/etc/ssh/sshd_config.d/20-lxc-gpu.conf")
APPARMOR = Path("/etc/apparmor.d")
USERNS_RULE = "  userns,\n"
"""The rule that parsers before AppArmor 4 don't know."""
TMPFILES = Path("/etc/tmpfiles.d/lxc-gpu.conf")
AUTH_FILES = "/tmp/sshauth.*"  # noqa: S108
"""Files in which sshd notes a connection's key (`state.connections`). Debian 13 removes files in
/tmp after ten days; without its file, a connection would be ended, because its key isn't known."""
SYSCTL = Path("/lib/systemd/systemd-sysctl")
SERVICES = ("register", "iam")
USERS_SHELL = str(places.LOGIN_SHELL)
"""The drop-in of a user's slice. An upgrade writes it at once, since a round would take it for
drift."""
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
    for unit in UNUSED_UNITS:
        if command.run(["systemctl", "is-enabled", unit], check=False).stdout.strip() != "masked":
            steps.say(f"stop and mask {unit}")
            command.run(["systemctl", "stop", unit], check=False)
            command.run(["systemctl", "mask", "--quiet", unit])
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
    _units(steps)
    if new_code:
        places.ROUND_SINCE_BOOT.unlink(missing_ok=True)  # what an upgrade changes is not drift
        command.run(["systemctl", "try-restart", *LOADED, *COUNTING])
    _sshd(steps)
    _kernel_settings(steps)
    _apparmor(steps)
    _modules(steps)
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


def _units(steps: Steps) -> None:
    changed = [_remove_others(steps)]
    changed += [steps.file(path, source.read_text()) for path, source in _unit_files()]
    for account in pwd.getpwall():
        if (shared := account.pw_name in SERVICES) or account.pw_shell == USERS_SHELL:
            limits = slices.LIMITS_FOR_ALL if shared else slices.LIMITS
            changed.append(steps.file(slices.drop_in(account.pw_uid), limits))
    if any(changed):
        command.run(["systemctl", "daemon-reload"])
    for unit in ENABLED_UNITS:
        asked = [["systemctl", word, "--quiet", unit] for word in ("is-enabled", "is-active")]
        if not all(command.run(argv, check=False).ok for argv in asked):
            steps.say(f"enable {unit}")
            command.run(["systemctl", "enable", "--now", "--quiet", unit])
    for unit in AT_BOOT:
        if not command.run(["systemctl", "is-enabled", "--quiet", unit], check=False).ok:
            steps.say(f"enable {unit}")
            command.run(["systemctl", "enable", "--quiet", unit])


def _remove_others(steps: Steps) -> bool:
    """Remove units of another release, which would keep failing. Whether there were any.

    They are recognised by what they run, since a sysadmin may have units with such names, too.
    """
    found = list[Path]()
    for service in sorted(UNIT_FOLDER.glob("lxc-gpu-*.service")):
        text = read_text(service) or ""
        runs = re.search(rf"^ExecStart={places.EXECUTABLES}/([\w-]+)", text, re.M)
        if runs and not (places.EXECUTABLES / runs[1]).exists():
            starters = (service.with_suffix(f".{kind}") for kind in ("timer", "socket", "path"))
            found += [*(path for path in starters if path.exists()), service]
    for path in found:
        command.run(["systemctl", "disable", "--now", "--quiet", path.name], check=False)
        steps.remove(path)
    return bool(found)


def _unit_files() -> list[tuple[Path, Path]]:
    """Our units and drop-ins: where each has to be, and where it is in the checkout."""
    folder = CHECKOUT / "setup" / "units"
    sources = sorted(path for path in folder.rglob("*") if path.is_file())
    return [(UNIT_FOLDER / source.relative_to(folder), source) for source in sources]


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


def _kernel_settings(steps: Steps) -> None:
    """Write our drop-in, and put those settings into effect that raise the present ones.

    systemd's own program does it, so that the sysadmin's files override ours, as at each boot. A
    machine that is a container has no kernel of its own, so nothing is set.
    """
    steps.file(kernel_settings.FILE, kernel_settings.text(bridged=_bridges_are_as_before()))
    if kernel_settings.are_of_another_machine():
        return
    if found := kernel_settings.lacking():
        prefixes = [f"--prefix={each.name}" for each, _ in found]
        command.run([SYSCTL, *prefixes], check=False)
        left = kernel_settings.lacking()
        done = tuple(each for each in found if each not in left)
        if done:
            steps.say(f"allow more of the kernel: {kernel_settings.in_words(done)}")


def _bridges_are_as_before() -> bool:
    """Whether set-up loaded br_netfilter, now or earlier, if it is loaded."""
    before = read_text(kernel_settings.FILE)
    if before is not None and modules.BRIDGES in modules.named(read_text(modules.AT_BOOT) or ""):
        return kernel_settings.BRIDGED in before
    return not kernel_settings.are_of_another_machine() and modules.for_us_alone(modules.BRIDGES)


def _apparmor(steps: Steps) -> None:
    """Load the containers' profiles into the kernel, if AppArmor is in use.

    Not on a machine that is a container itself: its profiles would be those of the machine below.
    """
    if confinement(PROFILES[0]) is Confinement.OFF or kernel_settings.are_of_another_machine():
        return
    steps.packages(("apparmor",))
    known = _parser_version()
    for profile in PROFILES:
        text = (CHECKOUT / "setup" / "apparmor" / profile).read_text()
        if known < 4:
            text = text.replace(USERNS_RULE, "")
        loaded = confinement(profile) is Confinement.PROFILE
        steps.apparmor_profile(APPARMOR / profile, text, loaded=loaded)


def _modules(steps: Steps) -> None:
    """Load the modules that engines inside containers need, now and at each boot."""
    if kernel_settings.are_of_another_machine():
        return
    steps.packages(("kmod",))
    names = modules.loadable()
    written = steps.file(modules.AT_BOOT, modules.boot_file(names))
    if missing := modules.absent():
        steps.say(f"load modules of the kernel: {' '.join(missing)}")
    if written or missing:
        command.run(["modprobe", "--all", *names], check=False)
        if kernel_settings.BRIDGED in (read_text(kernel_settings.FILE) or ""):
            command.run([SYSCTL, "--prefix=net.bridge"], check=False)


def _parser_version() -> int:
    found = re.search(r"version (\d+)", command.run(["apparmor_parser", "--version"]).stdout)
    return int(found[1]) if found else 0


def _print_server_file(options: argparse.Namespace, own_key: str) -> None:
    address = options.address or _address_of(options.name)
    print(f"\nThe file servers/{options.name}.yaml for the state repository:\n", file=sys.stderr)
    print(f"address: {address}\nhost_key: {ssh_host_key()}\nstate_key: {own_key}")


def _address_of(name: str) -> str:
    found = command.run(["getent", "ahostsv4", name], check=False).stdout.split()
    return found[0] if found else "ADDRESS"


def _undo(steps: Steps) -> None:
    _remove_others(steps)
    for unit in (*ENABLED_UNITS, AT_BOOT[0]):
        command.run(["systemctl", "disable", "--now", "--quiet", unit], check=False)
    command.run(["systemctl", "stop", *AT_WORK], check=False)
    command.run(["systemctl", "unmask", "--quiet", *UNUSED_UNITS], check=False)
    for path, _ in _unit_files():
        steps.remove(path)
        if path.parent != UNIT_FOLDER and path.parent.is_dir() and not any(path.parent.iterdir()):
            path.parent.rmdir()
    for limits in sorted(UNIT_FOLDER.glob("lxc-gpu@*.service.d")):
        steps.remove(limits)
    for limits in sorted(UNIT_FOLDER.glob(f"{slices.slice_of('*')}.d/{slices.DROP_IN}")):
        steps.remove(limits)
        if not any(limits.parent.iterdir()):
            limits.parent.rmdir()
    ours = (places.MOUNTS, places.OLD_HOMES, places.SYSTEMS, places.DEVICES)
    for mount in sorted(mount for folder in ours for mount in folder.glob("*")):
        steps.say(f"unmount {mount}")
        command.run(["umount", "--lazy", mount], check=False)
    _undo_spares(steps)
    command.run(["systemctl", "daemon-reload"], check=False)
    profiles = [APPARMOR / profile for profile in PROFILES]
    for path in profiles:
        if path.exists():
            command.run(["apparmor_parser", "--remove", path], check=False)
    for path in (SSHD_PIECE, TMPFILES, modules.AT_BOOT, *profiles, kernel_settings.FILE,
                 Path("/usr/local/bin/lxc-gpu"), *release.LINKS, Path("/opt/lxc-gpu")):  # fmt: skip
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
