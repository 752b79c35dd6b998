"""From a key removed on the page until no server takes it any more.

Two of the ten servers are real machines of the lab; the other eight are simulated: further
addresses of one of them, so that ten nudges run and ten host keys are checked, on two systems.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from laboratory.directory.people import LQCHEN
from laboratory.hosts import Lab
from laboratory.layout import LAPTOP_USER, NETWORK
from laboratory.wiring import CLONE

from tests.bench import many_users
from tests.bench.logins import save
from tests.bench.measure import Figure, seconds

REAL = (f"{NETWORK}.17", f"{NETWORK}.18")
SIMULATED = tuple(f"{NETWORK}.{number}" for number in range(201, 209))
KEY = f"/home/{LAPTOP_USER}/.ssh/removed"
UNTIL_REFUSED = """
until ssh -F none -i "$1" -o IdentitiesOnly=yes -o BatchMode=yes -o StrictHostKeyChecking=no \\
        -o UserKnownHostsFile=/dev/null "register@$2" somebody-else 2>&1 </dev/null |
        grep -q 'Permission denied'; do :; done
"""
"""`register` takes the keys of all users, and refuses who names somebody else: harmless to ask."""


def key_removed(lab: Lab) -> Figure:
    """All ten servers, against one of them."""
    _simulate(lab)
    return Figure(
        "key removed on the page until 10 servers refuse it",
        _removal(lab, REAL + SIMULATED),
        _removal(lab, REAL[:1]),
        "the same for one server; 8 of the 10 are simulated",
        "under 3 s",
    )


def _simulate(lab: Lab) -> None:
    host, laptop = lab.host("gpu18"), lab.host("laptop")
    host_key = " ".join(host.read("/etc/ssh/ssh_host_ed25519_key.pub").split()[:2])
    for number, address in enumerate(SIMULATED):
        host.run(["ip", "address", "add", f"{address}/24", "dev", "eth0"])
        state_key = many_users.key(10**8 + number)
        text = f"address: {address}\nhost_key: {host_key}\nstate_key: {state_key}\n"
        laptop.write(f"{CLONE}/servers/simulated{number}.yaml", text)
    laptop.sh(f"""
        cd {CLONE} && git add servers && git stash -q && git pull -q --ff-only && git stash pop -q
        git add servers && git commit -q -m 'Eight simulated servers' && git push -q""")


def _removal(lab: Lab, addresses: tuple[str, ...]) -> float:
    """Save a key, wait until both machines know it, remove it, wait for the last refusal."""
    laptop = lab.host("laptop")
    own = laptop.read(f"/home/{LAPTOP_USER}/.ssh/id_ed25519.pub").strip()
    make = f"rm -f {KEY} {KEY}.pub; ssh-keygen -q -t ed25519 -N '' -C removed -f {KEY}"
    laptop.sh(make, user=LAPTOP_USER)
    save(lab, LQCHEN, f"{own}\n{laptop.read(f'{KEY}.pub').strip()}")
    for name in ("gpu17", "gpu18"):
        known = (
            "until grep -q ' removed$' /etc/lxc-gpu/authorized_keys/register; do sleep 0.1; done"
        )
        lab.host(name).sh(known)

    def refused(address: str) -> None:
        words = ["bash", "-uc", UNTIL_REFUSED, "bash", KEY, address]
        laptop.run(words, user=LAPTOP_USER, timeout=60)

    def remove() -> None:
        save(lab, LQCHEN, own)
        with ThreadPoolExecutor(len(addresses)) as pool:
            list(pool.map(refused, addresses))

    return seconds(remove)
