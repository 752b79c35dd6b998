"""The steps of a set-up. Each can be repeated, and says what it changed.

Standard library and `state` only: this runs before anything is installed.
"""

from __future__ import annotations

import grp
import hashlib
import os
import platform
import pwd
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from installation import lock
from state import command
from state.errors import LxcGpuError
from state.files import read_text, settle, sync_folder, write_file

CHECKOUT = Path(__file__).resolve().parents[2]
ENVIRONMENT = Path("/opt/lxc-gpu")
"""The private Python environment. Nothing of ours goes into a shared site-packages."""
PACKAGES_LINK = ENVIRONMENT / "packages"
"""A link to the environment's site-packages, for any version of Python. The shells look there."""
WHEELS = (CHECKOUT / "wheels", Path("/var/cache/lxc-gpu/wheels"))
"""Folders of wheels for machines without a package index. Those that exist are used instead of an
index. A release archive contains the first; a sysadmin can fill the other."""
UNFINISHED = ENVIRONMENT / ".unfinished"
"""The mark that exists during a set-up, and after one that was interrupted."""
PIP = (str(ENVIRONMENT / "bin" / "python"), "-P", "-m", "pip", "--disable-pip-version-check")
LOCK_NAME = lock.SERVERS.relative_to(CHECKOUT)
DOWNLOAD = f"pip download {' '.join(lock.EXACTLY)} {LOCK_NAME} --dest"
"""The command with which people fill a folder with wheels."""
SUPPORTED = {"debian": 12.0, "ubuntu": 24.04}
"""The first supported release of each distribution, by the names of os-release(5)."""


class Steps:
    """Makes changes and prints them. What is right already is not mentioned."""

    def __init__(self) -> None:
        self.changes = 0
        self.interrupted = False
        """Whether the last set-up was interrupted, so that what it wrote may not be in effect."""
        self._begun = False
        os.umask(0o022)

    def say(self, change: str) -> None:
        """Print one change."""
        self.changes += 1
        print(f"  {change}", flush=True)

    def begin(self) -> None:
        """Begin a set-up: until `done`, an interruption leaves a mark for the next run."""
        self._begun = True
        self.interrupted = UNFINISHED.exists()
        if self.interrupted:
            self.say("put into effect what an earlier set-up left")
        self._mark()

    def _mark(self) -> None:
        """Make the mark: what changes from here on has to be put into effect, by this run or
        another."""
        ENVIRONMENT.mkdir(parents=True, exist_ok=True)
        write_file(UNFINISHED, "")

    def packages(self, names: Sequence[str]) -> None:
        """Install missing Debian packages. Their services are left alone."""
        shown = command.run(
            ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *names], check=False
        )
        installed = {line.split()[0] for line in shown.stdout.splitlines() if " installed" in line}
        if missing := [name for name in names if name not in installed]:
            self.say(f"install packages: {' '.join(missing)}")
            quiet = {**lock.network_environment(), "DEBIAN_FRONTEND": "noninteractive"}
            self._fetch_package_lists()
            install = ["apt-get", "-qq", "-y", "--no-install-recommends", "install", *missing]
            command.run(install, env=quiet, timeout=1800)

    def _fetch_package_lists(self) -> None:
        """Fetch the package lists of all sources: old ones could lack security updates."""
        fetch = [CHECKOUT / "setup" / "package-lists"]
        done = command.run(fetch, env=lock.network_environment(), timeout=900, check=False)
        if not done.ok:
            raise LxcGpuError("package-lists", done.stderr.strip())  # its error says what to type
        for line in (done.stderr + done.stdout).splitlines():
            print(f"  {line}", flush=True)

    def environment(self) -> None:
        """Make the environment with exactly the packages of the lock file, without the project."""
        locked = lock.SERVERS.read_text()
        stamp = ENVIRONMENT / ".made-from"
        python = platform.python_version()
        made_from = hashlib.sha256(f"{locked}\n{python}".encode()).hexdigest()
        if read_text(stamp) == made_from:
            return
        self.say(f"make the Python environment {ENVIRONMENT} (a minute)")
        self._mark()
        stamp.unlink(
            missing_ok=True
        )  # until everything is there, it counts as made from no lock file
        command.run(["/usr/bin/python3", "-I", "-m", "venv", ENVIRONMENT], timeout=300)
        self._pip(["install", *lock.EXACTLY, str(lock.SERVERS)])
        self._remove_unlocked(lock.pins(locked))
        site = ENVIRONMENT / "lib" / f"python{'.'.join(python.split('.')[:2])}" / "site-packages"
        self.link(PACKAGES_LINK, site)
        write_file(stamp, made_from)

    def _remove_unlocked(self, locked: Mapping[str, str]) -> None:
        """Remove packages that only an older lock file had."""
        listed = command.run([*PIP, "list", "--format=freeze", "--exclude=lxc-gpu"]).stdout
        found = {lock.normal(line.partition("==")[0]) for line in listed.splitlines()}
        if others := sorted(found - locked.keys() - {"pip"}):
            self.say(f"remove from {ENVIRONMENT}: {' '.join(others)}")
            command.run([*PIP, "uninstall", "--quiet", "--yes", *others])

    def _pip(self, words: Sequence[str]) -> None:
        wheels = [folder for folder in WHEELS if folder.is_dir()]
        offline = ["--no-index", *(f"--find-links={folder}" for folder in wheels)] if wheels else []
        install = [*PIP, words[0], "--quiet", *offline, *words[1:]]
        done = command.run(install, env=lock.network_environment(), timeout=1800, check=False)
        if not done.ok:
            raise _pip_failure(done, wheels)

    def folder(self, path: Path, mode: int = 0o755, owner: str = "root") -> None:
        """Make a folder with this mode and owner."""
        if not path.is_dir():
            self.say(f"make {path}")
            path.mkdir(parents=True)
        self._own(path, mode, owner)

    def file(self, path: Path, text: str, mode: int = 0o644, owner: str = "root") -> bool:
        """Write a file with this content, mode and owner. Whether its readers have to read it
        again."""
        changed = read_text(path) != text
        if changed:
            self.say(f"write {path}")
            path.parent.mkdir(parents=True, exist_ok=True)
            write_file(path, text, mode)
        self._own(path, mode, owner)
        return changed or self.interrupted

    def _own(self, path: Path, mode: int, owner: str) -> None:
        """Set owner and mode of `path` itself, without following a link that somebody put there."""
        account = pwd.getpwnam(owner)
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            status = os.fstat(descriptor)
            if (status.st_uid, status.st_gid) != (account.pw_uid, account.pw_gid):
                os.fchown(descriptor, account.pw_uid, account.pw_gid)
            if status.st_mode & 0o7777 != mode:
                os.fchmod(descriptor, mode)
        finally:
            os.close(descriptor)

    def link(self, path: Path, target: Path) -> None:
        """Make a symbolic link to `target`. It replaces a file or link in one step."""
        if not path.is_symlink() or path.readlink() != target:
            self.say(f"link {path} -> {target}")
            fresh = path.with_name(f".{path.name}.new")
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(target)
            fresh.replace(path)
            sync_folder(path.parent)

    def remove(self, path: Path) -> None:
        """Remove a file, link or folder of ours, if it is there."""
        if path.is_symlink() or path.is_file():
            path.unlink()
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            return
        self.say(f"remove {path}")

    def sshd_piece(self, path: Path, text: str, exempt: Iterable[str] = ()) -> None:
        """Put a piece of sshd's configuration into effect, unless sshd refuses it.

        `exempt`: addresses and networks that sshd must not punish, if it knows penalties.
        """
        text = with_exempt(text, exempt, command.run(["sshd", "-T"], check=False).stdout)
        if read_text(path) != text:
            self._sshd_takes(path, text)
        if self.file(path, text):
            command.run(["systemctl", "reload-or-restart", "ssh"])

    def _sshd_takes(self, path: Path, text: str) -> None:
        """LxcGpuError if sshd refuses its configuration with this text in the file `path`.

        The test has its own mount namespace, in which the text is at its real path, so that other
        sshds don't read it.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="lxc-gpu") as folder:
            draft = Path(folder) / path.parent.name
            shutil.copytree(path.parent, draft)
            write_file(draft / path.name, text)
            look = 'mount --bind "$1" "$2"; exec sshd -t'
            words = ["unshare", "--mount", "sh", "-euc", look, "sh"]
            tested = command.run([*words, draft, path.parent], check=False)
        if not tested.ok:
            raise LxcGpuError(
                "sshd-config",
                f"sshd refuses its configuration with ours in it: {tested.stderr.strip()}",
                "The configuration is as before, and sshd was not touched.",
            )

    def apparmor_profile(self, path: Path, text: str, *, loaded: bool) -> None:
        """Load a profile of AppArmor into the kernel, unless its parser refuses it."""
        if read_text(path) == text and loaded and not self.interrupted:
            return
        with tempfile.NamedTemporaryFile("w", prefix="lxc-gpu") as draft:
            draft.write(text)
            draft.flush()
            parse = ["apparmor_parser", "--skip-kernel-load", "--skip-cache", draft.name]
            tested = command.run(parse, check=False)
        if not tested.ok:
            raise LxcGpuError(
                "apparmor-profile",
                f"AppArmor refuses the profile of our containers: {tested.stderr.strip()}",
                "The profile is in our checkout, setup/apparmor, and includes files of the "
                "package liblxc-common. Nothing was changed.",
            )
        self.file(path, text)
        self.say(f"load AppArmor's profile {path.name}")
        command.run(["apparmor_parser", "--replace", "--write-cache", path])

    def group(self, name: str) -> None:
        """Make a system group."""
        try:
            grp.getgrnam(name)
        except KeyError:
            self.say(f"make the group {name}")
            command.run(["groupadd", "--system", name])

    def service_account(self, name: str, home: Path, shell: Path) -> None:
        """Make a system account without a password, for logins by key or for a service."""
        try:
            account = pwd.getpwnam(name)
        except KeyError:
            self.say(f"make the account {name}")
            words = ["--system", "--user-group", "--home-dir", str(home), "--shell", str(shell)]
            command.run(["useradd", *words, "--no-create-home", name])
        else:
            if account.pw_shell != str(shell):
                self.say(f"give the account {name} the shell {shell}")
                command.run(["usermod", "--shell", str(shell), name])

    def ssh_key(self, private: Path, comment: str, owner: str = "root") -> str:
        """Make an ed25519 key pair. Return the public line."""
        public = private.with_name(f"{private.name}.pub")
        if not private.exists():
            self.say(f"make the ssh key {private}")
            words = ["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(private)]
            command.run(["ssh-keygen", *words])
            settle(private.parent)
        self._own(private, 0o600, owner)
        self._own(public, 0o644, owner)
        return public.read_text().strip()

    def done(self) -> None:
        """End the set-up, and say so if nothing was changed."""
        if self._begun:  # it was the whole set-up, not only packages
            UNFINISHED.unlink(missing_ok=True)
        if self.changes == 0:
            print("  nothing to change", flush=True)


def with_exempt(piece: str, exempt: Iterable[str], shown: str) -> str:
    """The piece for an sshd that prints `shown` with -T, since sshd refuses settings that it
    doesn't know. Pure.

    The line with addresses that it doesn't punish (from OpenSSH 9.8 on) is kept if there are any.
    """
    listed = ",".join(exempt)
    if listed and "persourcepenalties " in shown:
        return piece.replace("@EXEMPT@", listed)
    return "".join(line for line in piece.splitlines(True) if "@EXEMPT@" not in line)


def supported_release() -> str:
    """The name of this machine's release. LxcGpuError if it is not supported."""
    release = platform.freedesktop_os_release()
    first = SUPPORTED.get(release["ID"])
    if first is None or float(release.get("VERSION_ID", "0")) < first:
        raise LxcGpuError(
            "unsupported-host",
            f"{release.get('PRETTY_NAME', 'This system')} is not supported.",
            "lxc-gpu runs on Debian 12 and later, and on Ubuntu 24.04 and later.",
        )
    return release["PRETTY_NAME"]


def require_root(script: str) -> None:
    """LxcGpuError unless this runs as root."""
    if os.geteuid() != 0:
        raise LxcGpuError(
            "not-root", "This script changes the machine, so it needs root.", f"sudo {script}"
        )


def ssh_host_key() -> str:
    """This machine's public ed25519 ssh host key, without its comment."""
    text = Path("/etc/ssh/ssh_host_ed25519_key.pub").read_text("ascii")
    return " ".join(text.split()[:2])


def _pip_failure(done: command.Finished, wheels: Sequence[Path]) -> LxcGpuError:
    """The error for a failure of pip. `wheels`: the folders that were used, if any."""
    details = done.stderr.strip()
    source = " and ".join(map(str, wheels)) or "the package index"
    if "DO NOT MATCH THE HASHES" in details:
        package = re.search(r"^ +(\S+==\S+) ", details, re.MULTILINE)
        name = package[1] if package else "A package"
        return LxcGpuError(
            "package-differs",
            f"{name}: {source} has another package than {LOCK_NAME} names. It was damaged or "
            "exchanged. Nothing was installed.",
            "Don't use it. Fetch it again, and find out where it came from.",
            details=details,
        )
    if wheels and "No matching distribution" in details:
        return LxcGpuError(
            "package-missing",
            f"{source} lacks a package that {LOCK_NAME} names: {details.splitlines()[-1]}",
            "A release archive is for the Pythons and the processor that docs/releasing.md names. "
            f"Fill {WHEELS[-1]} on a machine with the same system: {DOWNLOAD} {WHEELS[-1]}",
            details=details,
        )
    return command.failure(done)
