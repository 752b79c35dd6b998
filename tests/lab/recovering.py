"""What tests of `recover` and `rebuild` type, look at and break."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping

from laboratory.hosts import Host

from state.command import Finished
from tests.lab.fleet import BAIT, CONTAINERS, SYSTEM, Fleet, system_of

FOLDER = f"{CONTAINERS}/lqchen"
HERS = f"{CONTAINERS}/ann"
ASIDE = f"{CONTAINERS}/.lqchen-of-tests"
"""Where lqchen's own container is while a small one is in its place."""
SNAPSHOTS = "/var/lib/lxc-gpu/snapshots/lqchen"
UNCONFIRMED = 3
DRIVER = """
import json, os, sys
sys.path.insert(0, "/opt/lxc-gpu/packages")
from shells.usage import Verb
from shells.verbs import VerbRequest, serve
from state.errors import LxcGpuError
from reconciler.archives import extract
from reconciler.disk import free_space
user, words, source, setting = sys.argv[1:]
exec(setting)
try:
    sent = os.open(source, os.O_RDONLY) if source else None
    asked = VerbRequest(user, json.loads(words), sent)
    print(serve(Verb.RECOVER, asked, lambda progress: None).text)
except LxcGpuError as error:
    print(error.code, "details:", error.details[:500])
    sys.exit(1)
"""
"""The root helper's work without its socket; `setting` is Python that changes our code first."""


def manage(
    fleet: Fleet, request: str, stdin: bytes | None = None, user: str = "lqchen"
) -> Finished:
    """What somebody gets for a verb."""
    return fleet.types(f"ssh gpu17-manage {request}", user=user, stdin=stdin, wait=120)


def agreed(fleet: Fleet, request: str) -> Finished:
    """The same with a yes."""
    asked = manage(fleet, request)
    assert asked.status == UNCONFIRMED, asked.stdout + asked.stderr
    return manage(fleet, f"{request} --confirm {token(asked)}")


def token(asked: Finished) -> str:
    """What has to be typed to go on."""
    found = re.search(r"--confirm ([0-9a-f]{8})\n", asked.stderr)
    assert found, asked.stderr
    return found[1]


def inside(fleet: Fleet, script: str) -> str:
    """What a script prints in lqchen's running container."""
    done = fleet.types(f"ssh gpu17 {shlex.quote(script)}")
    assert done.ok, done.stderr
    return done.stdout


def driven(
    host: Host,
    words: Mapping[str, str],
    source: str = "",
    *,
    user: str = "lqchen",
    setting: str = "",
    at: str = "",
) -> Finished:
    """The root helper recovers, asked in these words, from an archive or from a snapshot.

    `at` is what the program is started by: strace(1) can kill it at a call.
    """
    argv = ["/usr/bin/python3", "-IS", "-c", DRIVER, user, json.dumps(words), source, setting]
    return host.sh(f"{at} {shlex.join(argv)}", check=False, timeout=120)


def trees(host: Host) -> str:
    """A text that differs if any system of lqchen's or ann's is another one, or outside is."""
    hers = system_of(host, "ann")
    return host.sh(f"""
        stat -c '%n %i %u %a' {FOLDER}/* {SYSTEM} {HERS}/* {FOLDER}
        mkdir -p {BAIT}; find {BAIT} -printf '%p %i %U %m\\n' -type f -exec cat {{}} +
        sha256sum /etc/passwd /etc/shadow {SYSTEM}/etc/shadow {hers}/etc/shadow
        ls -A -I 'systemd-private-*' {FOLDER} {HERS} {BAIT} /tmp /var/tmp /dev/shm""").stdout


def working(host: Host) -> str:
    """The programs that unpack something."""
    return host.sh("ps -eo comm= | grep -E '^(tar|zstd)$' | sort -u || true").stdout
