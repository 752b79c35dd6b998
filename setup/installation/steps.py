"""Steps that make a machine as wanted, each repeatable, each saying what it changed.

Standard library and `state.command` only: this runs before anything is installed.
"""

from __future__ import annotations

import grp
import hashlib
import os
import platform
import pwd
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from state import command
from state.errors import LxcGpuError
from state.files import keep_folder, read_text, write_file

CHECKOUT = Path(__file__).resolve().parents[2]
ENVIRONMENT = Path("/opt/lxc-gpu")
"""The private Python environment; nothing of ours goes into a shared site-packages."""
PACKAGES_LINK = ENVIRONMENT / "packages"
"""Leads to the environment's site-packages, whichever Python made it: the shells look there."""
WHEELS = Path("/var/cache/lxc-gpu/wheels")
"""Wheels for machines without a package index: used instead of one if the folder is there."""
UNFINISHED = ENVIRONMENT / ".unfinished"
"""There while a set-up is under way, and after one that was interrupted."""
RELEASES = {"debian": 12.0, "ubuntu": 24.04}
"""The first supported release of each distribution, by the names of os-release(5)."""


class Steps:
    """Makes changes and says them; what is right already is not mentioned."""

    def __init__(self) -> None:
        self.changes = 0
        self.interrupted = False
        """Whether the last set-up did not come to its end: what it wrote may not be in effect."""
        os.umask(0o022)

    def say(self, change: str) -> None:
        """Note one change."""
        self.changes += 1
        print(f"  {change}", flush=True)

    def begin(self) -> None:
        """From here to `done`, an interruption leaves a mark for the next run."""
        self.interrupted = UNFINISHED.exists()
        if self.interrupted:
            self.say("go on after a set-up that was interrupted")
        write_file(UNFINISHED, "")

    def packages(self, names: Sequence[str]) -> None:
        """Install what is missing of Debian's packages; services of theirs are left alone."""
        shown = command.run(
            ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *names], check=False
        )
        installed = {line.split()[0] for line in shown.stdout.splitlines() if " installed" in line}
        if missing := [name for name in names if name not in installed]:
            self.say(f"install packages: {' '.join(missing)}")
            quiet = {"DEBIAN_FRONTEND": "noninteractive"}
            self._fetch_package_lists()
            install = ["apt-get", "-qq", "-y", "--no-install-recommends", "install", *missing]
            command.run(install, env=quiet, timeout=1800)

    def _fetch_package_lists(self) -> None:
        """Fresh lists of all sources; old ones could leave security updates out."""
        done = command.run([CHECKOUT / "setup" / "package-lists"], timeout=900, check=False)
        if not done.ok:
            raise LxcGpuError("package-lists", done.stderr.strip())  # which says what to type
        for line in (done.stderr + done.stdout).splitlines():
            print(f"  {line}", flush=True)

    def environment(self) -> None:
        """The environment with everything that pyproject.toml asks for, without the project."""
        project = CHECKOUT / "pyproject.toml"
        stamp = ENVIRONMENT / ".made-from"
        python = platform.python_version()
        wanted = "\n".join([*_dependencies(project), python])
        made_from = hashlib.sha256(wanted.encode()).hexdigest()
        if read_text(stamp) == made_from:
            return
        self.say(f"make the Python environment {ENVIRONMENT} (a minute)")
        command.run(["/usr/bin/python3", "-m", "venv", ENVIRONMENT], timeout=300)
        with tempfile.TemporaryDirectory() as copy:
            shutil.copy(project, copy)  # without the packages: their dependencies only
            requirements = Path(copy) / "requirements.txt"
            requirements.write_text("\n".join([*_dependencies(project), "setuptools>=68", "wheel"]))
            self._pip(["install", "--requirement", str(requirements)])
        site = ENVIRONMENT / "lib" / f"python{'.'.join(python.split('.')[:2])}" / "site-packages"
        self.link(PACKAGES_LINK, site)
        write_file(stamp, made_from)

    def _pip(self, words: Sequence[str]) -> None:
        offline = ["--no-index", f"--find-links={WHEELS}"] if WHEELS.is_dir() else []
        pip = [str(ENVIRONMENT / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
        command.run([*pip, words[0], "--quiet", *offline, *words[1:]], timeout=1800)

    def folder(self, path: Path, mode: int = 0o755, owner: str = "root") -> None:
        """A folder with this mode and owner."""
        if not path.is_dir():
            self.say(f"make {path}")
            path.mkdir(parents=True)
        self._own(path, mode, owner)

    def file(self, path: Path, text: str, mode: int = 0o644, owner: str = "root") -> bool:
        """A file with this content, mode and owner. Whether its readers have to read it again."""
        changed = read_text(path) != text
        if changed:
            self.say(f"write {path}")
            path.parent.mkdir(parents=True, exist_ok=True)
            write_file(path, text, mode)
        self._own(path, mode, owner)
        return changed or self.interrupted

    def _own(self, path: Path, mode: int, owner: str) -> None:
        """Owner and mode of `path` itself: a link that somebody put there is not followed."""
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
        """A symbolic link to `target`; it takes the place of a file or link in one step."""
        if not path.is_symlink() or path.readlink() != target:
            self.say(f"link {path} -> {target}")
            fresh = path.with_name(f".{path.name}.new")
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(target)
            fresh.replace(path)
            keep_folder(path.parent)

    def remove(self, path: Path) -> None:
        """Take a file, link or folder of ours away, if it is there."""
        if path.is_symlink() or path.is_file():
            path.unlink()
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            return
        self.say(f"remove {path}")

    def sshd_piece(self, path: Path, text: str) -> None:
        """A piece of sshd's configuration, in effect; taken away again if sshd refuses it."""
        before = read_text(path)
        if not self.file(path, text):
            return
        tested = command.run(["sshd", "-t"], check=False)
        if not tested.ok:
            if before is None:
                path.unlink()
            else:
                write_file(path, before)
            raise LxcGpuError(
                "sshd-config",
                f"sshd refuses its configuration with ours in it: {tested.stderr.strip()}",
                "It is as it was before; sshd was not touched.",
            )
        command.run(["systemctl", "reload-or-restart", "ssh"])

    def apparmor_profile(self, path: Path, text: str, *, loaded: bool) -> None:
        """A profile of AppArmor, in the kernel; what its parser refuses is not put in place."""
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
                "It is part of our checkout, setup/apparmor; it includes what the package "
                "liblxc-common brings. Nothing was changed.",
            )
        self.file(path, text)
        self.say(f"load AppArmor's profile {path.name}")
        command.run(["apparmor_parser", "--replace", "--write-cache", path])

    def group(self, name: str) -> None:
        """A system group."""
        try:
            grp.getgrnam(name)
        except KeyError:
            self.say(f"make the group {name}")
            command.run(["groupadd", "--system", name])

    def service_account(self, name: str, home: Path, shell: Path) -> None:
        """A system account without a password, reached by keys or by its service only."""
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
        """An ed25519 key pair made here; returns the public line."""
        public = private.with_name(f"{private.name}.pub")
        if not private.exists():
            self.say(f"make the ssh key {private}")
            words = ["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(private)]
            command.run(["ssh-keygen", *words])
        self._own(private, 0o600, owner)
        self._own(public, 0o644, owner)
        return public.read_text().strip()

    def done(self) -> None:
        """The end: say so if nothing was changed."""
        UNFINISHED.unlink(missing_ok=True)
        if self.changes == 0:
            print("  nothing to change", flush=True)


def supported_release() -> str:
    """The release's name; LxcGpuError on a machine that nobody has tried this on."""
    release = platform.freedesktop_os_release()
    first = RELEASES.get(release["ID"])
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
        raise LxcGpuError("not-root", "This changes the machine: it needs root.", f"sudo {script}")


def ssh_host_key() -> str:
    """This machine's public ed25519 ssh host key, without its comment."""
    text = Path("/etc/ssh/ssh_host_ed25519_key.pub").read_text("ascii")
    return " ".join(text.split()[:2])


def _dependencies(project: Path) -> list[str]:
    import tomllib

    return list(tomllib.loads(project.read_text())["project"]["dependencies"])
