"""A lab that was set up from an earlier release, and its machines' upgrade to this checkout."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from laboratory.hosts import Lab
from laboratory.images.cache import Images
from laboratory.layout import SOURCE_INSIDE, WHEELS_INSIDE, LabPaths
from laboratory.machines.host import Host
from laboratory.progress import ProgressLines

from state.command import Finished, run
from tests.lab import CHECKOUT
from tests.lab.running import WORKER

RELEASE = os.environ.get("LXC_GPU_UPGRADE_FROM", "6cf0cc0")
"""From which revision: what version 0.1.0 was, unless told."""
FOLDER = CHECKOUT / "-".join(filter(None, (".lab-upgrade", WORKER)))
"""Where the clone is. No machine sees it: its name begins as a lab's."""
CLONE = FOLDER / "lxc-gpu"
PACKAGES = ("state", "reconciler", "shells", "webui")
SCRIPTS = {"gpu17": "gpu-server", "gpu18": "gpu-server", "iam": "web-server"}

MISSING = """
import importlib.util, json, sys
def there(name):
    parent = name.rpartition(".")[0]
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False
print(json.dumps([name for name in json.load(sys.stdin) if not there(name)]))
"""
"""Tells which of the modules on stdin can't be imported."""


def set_up() -> Lab:
    """A clone of this repository at that release; its own `setup/lab` makes a lab of it."""
    tear_down()
    FOLDER.mkdir()
    run(["git", "clone", "--quiet", "--no-checkout", CHECKOUT, CLONE], timeout=120)
    run(["git", "-C", CLONE, "tag", "--force", "v0.1.0", RELEASE])
    run(["git", "-C", CLONE, "checkout", "--quiet", "v0.1.0"])
    # Programs of the clone in the environment that is there: it needs the network to be made.
    python = CLONE / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    done = _lab("up")
    assert done.returncode == 0, done.stdout + done.stderr
    return Lab(LabPaths(CLONE / ".lab"))


def tear_down() -> None:
    """Remove that lab and its clone, also those that a killed run left."""
    if (CLONE / "setup/lab").exists():
        _lab("down")
    if FOLDER.exists():
        shutil.rmtree(FOLDER)


def _lab(verb: str) -> subprocess.CompletedProcess[str]:
    words = [str(CLONE / "setup/lab"), verb]
    return subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=900, check=False
    )


def bring_checkout(host: Host) -> None:
    """In place of the old checkout, as `git pull` does, and with what isn't committed yet.

    With it what a set-up of today gets from the network, which the machine can't reach.
    """
    listed = run(["git", "-C", CHECKOUT, "ls-files", "-z", "-co", "--exclude-standard"]).stdout
    names = [name for name in listed.split("\0") if name and (CHECKOUT / name).exists()]
    _bring(host, CHECKOUT, names, SOURCE_INSIDE)
    with ProgressLines() as progress, ThreadPoolExecutor(8) as pool:
        images = Images(progress, pool)
        wheels, image = images.wheels(host.spec), images.of(host.spec)
    if wheels != (host.folder / "wheels").resolve():
        _bring(host, wheels, sorted(wheel.name for wheel in wheels.iterdir()), WHEELS_INSIDE)
    _bring_packages(host, image)


def _bring_packages(host: Host, image: Path) -> None:
    """Install Debian's packages that the image of today has and this machine lacks."""
    words = ["dpkg-query", "-W", "-f", "${Package}\n"]
    wanted = run([*words, f"--admindir={image}/var/lib/dpkg"]).stdout.split()
    missing = sorted(set(wanted) - set(host.run(words).stdout.split()))
    if missing:
        with tempfile.TemporaryDirectory() as folder:
            fetch = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", *missing]
            run(fetch, cwd=Path(folder), timeout=300)
            packages = sorted(package.name for package in Path(folder).iterdir())
            _bring(host, Path(folder), packages, "/root/packages")
        host.sh("dpkg -i /root/packages/*.deb", timeout=300)


def _bring(host: Host, source: Path, names: list[str], target: str) -> None:
    """Files in place of what is mounted at `target`."""
    packing = ["tar", "-C", str(source), "-c", "--null", "--verbatim-files-from", "-T", "-"]
    packed = subprocess.run(
        packing, input="\0".join(names).encode(), capture_output=True, timeout=120, check=True
    ).stdout
    host.sh(
        f"if mountpoint -q {target}; then umount -R {target}; fi; mkdir -p {target}; "
        f"tar -C {target} -x --no-same-owner",
        stdin=packed,
        timeout=120,
    )


def script(host: Host) -> str:
    """What docs/sysadmins/upgrade.md says to run on this machine, without options."""
    return f"{SOURCE_INSIDE}/setup/{SCRIPTS[host.name]}"


def upgrade(host: Host) -> Finished:
    """As docs/sysadmins/upgrade.md says."""
    bring_checkout(host)
    return host.run([script(host)], timeout=300)


def killed_on_the_way(host: Host, steps: int) -> bool:
    """Run the set-up until it has put so many files or links in place; whether it was killed."""
    kill = f"--trace=rename --inject=rename:signal=KILL:when={steps + 1}"
    done = host.sh(f"exec strace -qq -o /dev/null {kill} {script(host)}", timeout=300, check=False)
    assert done.status in (0, 137), done.stdout + done.stderr
    return not done.ok


def installed_texts(host: Host) -> dict[str, str]:
    """Every text that was written on this machine since it was made, but code and journals."""
    outside = ("usr/src/", "opt/lxc-gpu/lib/", "opt/lxc-gpu/releases/", "var/log/", "var/cache/")
    roots = {host.folder / "upper": "", host.folder / "disks/var/lib/lxc-gpu": "var/lib/lxc-gpu/"}
    texts = {}
    for root, prefix in roots.items():
        for path in root.rglob("*"):
            name = f"{prefix}{path.relative_to(root)}"
            if name.startswith((*outside, "var/lib/lxc-gpu/containers/")) or "/objects/" in name:
                continue
            if path.is_symlink() or not path.is_file() or path.stat().st_size > 1 << 20:
                continue
            try:
                texts[name] = path.read_text()
            except UnicodeDecodeError:
                continue
    for link in host.sh("ls -d /usr/local/lib/lxc-gpu/*").stdout.split():
        texts[link] = host.read(link)
    return texts


def named_modules(text: str) -> set[str]:
    """The modules of ours that a text names; `state.git` in a path is none."""
    names = re.findall(rf"(?<![\w/.-])(?:{'|'.join(PACKAGES)})(?:\.[a-z_]\w*)+", text)
    return {name for name in names if not name.endswith((".git", ".yaml", ".json"))}


def missing_modules(host: Host) -> dict[str, list[str]]:
    """Installed files that name modules of ours which don't exist there, with those."""
    named = {path: named_modules(text) for path, text in installed_texts(host).items()}
    everything = sorted(set().union(*named.values()))
    assert everything, "executables name modules"
    words = ["/opt/lxc-gpu/bin/python", "-I", "-c", MISSING]
    missing = set(json.loads(host.run(words, stdin=json.dumps(everything)).stdout))
    return {path: sorted(names & missing) for path, names in named.items() if names & missing}


def our_modules(host: Host) -> set[str]:
    """The files of our packages as programs on this machine see them."""
    find = "cd /opt/lxc-gpu/packages; find %s -type f; ls -d lxc_gpu* || true"
    listed = host.sh(find % " ".join(f"{name}/" for name in PACKAGES)).stdout.splitlines()
    return {name for name in listed if "__pycache__" not in name}


def checkout_modules() -> set[str]:
    """The same files as this checkout has them."""
    files = (path for name in PACKAGES for path in (CHECKOUT / name).rglob("*"))
    return {
        str(path.relative_to(CHECKOUT))
        for path in files
        if path.is_file() and "__pycache__" not in path.parts
    }
