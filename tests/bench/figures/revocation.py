"""From a key removed on the page until no server takes it any more.

Two of the ten servers are real machines of the lab; the other eight are simulated: further
addresses of one of them, so that ten nudges run, on two systems. The page hears the load of each,
as in a laboratory, so a nudge needs no login. That machine takes the key away by the first of its
nine nudges, where nine servers would need nine. So there is a second figure, until the last of ten
rounds has ended.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from statistics import quantiles
from urllib.request import urlopen

from laboratory.directory.people import LQCHEN
from laboratory.hosts import Lab
from laboratory.layout import LAPTOP_USER, NETWORK
from laboratory.wiring import GPU_SERVERS

from tests.bench.figures import many_users
from tests.bench.figures.logins import KEYS, save, save_everywhere
from tests.bench.measure import Figure
from tests.bench.quiet import LONGEST, page_running, until_quiet
from tests.lab.fleet import Fleet

REAL = (f"{NETWORK}.17", f"{NETWORK}.18")
SIMULATED = tuple(f"{NETWORK}.{number}" for number in range(201, 209))
KEY = f"{KEYS}/removed"
IAM = "/usr/local/lib/lxc-gpu/iam"
AS_SIMULATED = f"""
import os
from dataclasses import replace
from reconciler.host import config
own, number = config.read_server_config(), os.environ["SSH_CONNECTION"].split()[2]
if number in {SIMULATED}:
    config.read_server_config = lambda: replace(own, name="simulated" + number.split(".")[3])
"""
"""What the account `iam` does first meanwhile: it calls itself what the page called."""
WAIT = """
exec 3<> <(:)
while read -r -d '' text </etc/lxc-gpu/authorized_keys/register; [[ $text == *' removed'* ]]; do
    read -r -t 0.01 -u 3 || :
done
"""
"""The moment from which sshd refuses the key. Logins would take both cores from the rounds, and one
that is refused takes as long as all the rest; so they come afterwards. No program starts in it."""
IS_REFUSED = """
ssh -F none -i "$1" -o IdentitiesOnly=yes -o BatchMode=yes -o StrictHostKeyChecking=no \\
    -o UserKnownHostsFile=/dev/null "register@$2" somebody-else 2>&1 </dev/null |
    grep -q 'Permission denied'
"""
"""`register` takes the keys of all users, and refuses who names somebody else: harmless to ask."""


def key_removed(lab: Lab, runs: int = 10) -> Iterator[Figure]:
    """All ten servers, against one of them: at the 95th percentile of so many runs in turn."""
    with page_running(lab), _simulated(lab):
        taken = [(*_removal(lab, REAL), _removal(lab, REAL[:1])[0]) for _ in range(runs)]
    ours, reported, floor = (
        quantiles(times, n=20, method="inclusive")[-1] for times in zip(*taken, strict=True)
    )
    name = "key removed on the page until 10 servers refuse it, 95th percentile"
    of_one = "the same for one server; 8 of the 10 are simulated"
    yield Figure(name, ours, floor, of_one, "under 1.0 s")
    yield Figure("the same until the rounds of all 10 have ended", reported, floor, of_one, "-")


@contextmanager
def _simulated(lab: Lab) -> Iterator[None]:
    """Eight servers more, for as long as the block; all servers know of each change."""
    host = lab.host("gpu18")
    host_key = " ".join(host.read("/etc/ssh/ssh_host_ed25519_key.pub").split()[:2])
    script = ""
    for address in SIMULATED:
        number = int(address.rpartition(".")[2])
        state_key = many_users.key(10**8 + number)
        text = f"address: {address}\nhost_key: {host_key}\nstate_key: {state_key}\n"
        script += f"cat >servers/simulated{number}.yaml <<'END'\n{text}END\n"
    program = host.read(IAM)
    host.sh(_addresses("add"))
    host.write(IAM, program.replace("\nfrom shells", f"{AS_SIMULATED}\nfrom shells"), 0o755)
    try:
        _pushed(lab, "Eight simulated servers", script)
        streams = f"$(pgrep -cu iam -f {IAM})"
        host.sh(f"until [ {streams} -gt {len(SIMULATED)} ]; do sleep 0.1; done", timeout=LONGEST)
        yield
    finally:
        _pushed(lab, "No simulated servers", "rm -f servers/simulated*.yaml")
        host.write(IAM, program, 0o755)
        host.sh(_addresses("delete"))


def _addresses(verb: str) -> str:
    return "\n".join(f"ip address {verb} {address}/24 dev eth0" for address in SIMULATED)


def _pushed(lab: Lab, message: str, script: str) -> None:
    """The sysadmin pushes a change, and the nudges that follow are over."""
    revision = Fleet(lab).commits(message, script)
    for name in GPU_SERVERS:
        known = f"until grep -q {revision} /var/lib/lxc-gpu/view.json; do sleep 0.1; done"
        lab.host(name).sh(known, timeout=LONGEST)
    until_quiet(lab)


def _removal(lab: Lab, addresses: tuple[str, ...]) -> tuple[float, float]:
    """Save a key, wait until all machines know it, remove it.

    How long it takes until the machines at `addresses` refuse it, and until all rounds have ended.
    """
    laptop = lab.host("laptop")
    own = laptop.read(f"{KEYS}/id_ed25519.pub").strip()
    make = f"rm -f {KEY} {KEY}.pub; ssh-keygen -q -t ed25519 -N '' -C removed -f {KEY}"
    laptop.sh(make, user=LAPTOP_USER)
    save_everywhere(lab, LQCHEN, f"{own}\n{laptop.read(f'{KEY}.pub').strip()}")
    for name in GPU_SERVERS:
        lab.host(name).run(["grep", "-q", " removed$", "/etc/lxc-gpu/authorized_keys/register"])
    until_quiet(lab)

    def refused(address: str) -> None:
        words = ["bash", "-uc", IS_REFUSED, "bash", KEY, address]
        laptop.run(words, user=LAPTOP_USER, timeout=LONGEST)

    def gone(server: str) -> None:
        lab.host(server).sh(WAIT, timeout=LONGEST)

    begun = time.monotonic()
    url = save(lab, LQCHEN, own)
    with ThreadPoolExecutor(len(addresses)) as pool:
        list(pool.map(gone, GPU_SERVERS[: len(addresses)]))
        taken = time.monotonic() - begun
        list(pool.map(refused, addresses))
    with urlopen(f"{url}/events", timeout=LONGEST) as events:
        events.read()
    reported = time.monotonic() - begun
    until_quiet(lab)
    for address in SIMULATED:
        refused(address)
    laptop.run(["rm", KEY, f"{KEY}.pub"])
    return taken, reported
