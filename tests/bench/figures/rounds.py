"""Rounds for 1,000 users, as whole programs, on a server of the lab."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from laboratory.hosts import Host, Lab

from tests.bench.figures import many_users
from tests.bench.measure import Figure, in_turn

USERS = 1000
SERVER = many_users.SERVER
KINDS = "authorized_keys register_keys account subids usernet network port_map forward"
"""All but containers: a thousand of those is another measurement."""
ROUND = "/usr/local/lib/lxc-gpu/reconcile " + " ".join(f"--kind {kind}" for kind in KINDS.split())
FILES = "/etc/passwd /etc/shadow /etc/group /etc/subuid /etc/subgid /etc/lxc/lxc-usernet"
BARE_READ = f"""
import pathlib
for path in {FILES.split()!r}:
    pathlib.Path(path).read_bytes()
pathlib.Path("/var/lib/lxc-gpu/view.json").read_bytes()
for path in pathlib.Path("/etc/lxc-gpu/authorized_keys").iterdir():
    path.read_bytes()
"""
FORKED = """
import gc, importlib, os, sys, time
sys.path[:0] = ["/opt/lxc-gpu/release", "/opt/lxc-gpu/packages"]
from reconciler.network import iptables
from shells.helper.loaded import OF_CHANGES, OFTEN
for name in (*OFTEN, *OF_CHANGES):
    importlib.import_module(name)
from shells.commands.round import main
iptables.remember(10)
gc.freeze()
begun = time.perf_counter()
child = os.fork()
if child == 0:
    sys.stdout = open(os.devnull, "w")
    os._exit(main(sys.argv[1:]))
os.waitpid(child, 0)
print(time.perf_counter() - begun)
"""
"""The seconds that a round takes in a child of a loaded process, as the root helper has it."""
CHANGED = """
etc/passwd etc/shadow etc/group etc/gshadow etc/subuid etc/subgid etc/lxc/lxc-usernet etc/lxc-gpu
var/lib/lxc-gpu/view.json var/lib/lxc-gpu/trusted var/lib/lxc-gpu/state.git
"""
"""Files and folders of the server that rounds for other users change, or make."""
BARE_CHECK = """
git -C /root/big.git ls-tree -r main --format='%(objectname)' |
    git -C /root/big.git cat-file --batch --buffer
/opt/lxc-gpu/bin/python -c 'import pydantic'
"""
KEEP = f"cd / && tar --numeric-owner -cf /root/before.tar $(ls -d {' '.join(CHANGED.split())} || :)"
PREPARE = """
mkdir /root/state && cd /root/state && tar x && git init -q -b main
ssh-keygen -q -t ed25519 -N '' -C admin -f /root/admin
echo "signers: [{name: Admin, role: admin, key: $(cat /root/admin.pub)}]" >>fleet.yaml
git add . && git -c user.name=x -c user.email=x@x commit -q -m 'Many users'
sed -i 's|^state_url.*|state_url = "/root/state/.git"|' /etc/lxc-gpu/server.toml
rm -rf /var/lib/lxc-gpu/view.json /var/lib/lxc-gpu/state.git
git rev-parse main >/var/lib/lxc-gpu/trusted
mkdir -p /root/copy/etc
cp /etc/passwd /etc/shadow /etc/group /etc/gshadow /root/copy/etc
"""
RESTORE = f"""
rm -rf /etc/lxc-gpu /etc/lxc/lxc-usernet /var/lib/lxc-gpu/state.git
tar -C / --numeric-owner -xf /root/before.tar
rm -rf /home/user[0-9][0-9][0-9][0-9]
rm -rf /root/before.tar /root/state /root/admin /root/admin.pub /root/copy /root/copy.conf
{ROUND}
"""
"""A round of these kinds is not noted in the server's status: what it takes away is no drift."""


def timed(host: Host, script: str) -> float:
    """Seconds that a shell script takes, by the host's own clock, without our way into it."""
    program = f"begun=$(date +%s%N)\n{script}\nended=$(date +%s%N); echo $((ended - begun)) >&3"
    done = host.sh(f"exec 3>&1; {{ {program}; }} >/dev/null", timeout=300)
    return int(done.stdout.split()[-1]) / 1e9


@contextmanager
def state_of(host: Host, users: int) -> Iterator[None]:
    """The server goes by another state for as long as the block, and is then as it was before."""
    host.sh(KEEP)
    try:
        host.sh(PREPARE, stdin=many_users.as_tar(many_users.files(users)), timeout=300)
        yield
    finally:
        host.sh(RESTORE, timeout=300)


@contextmanager
def _a_thousand_users(host: Host) -> Iterator[None]:
    """The same, after the first round: the users have their accounts."""
    with state_of(host, USERS):
        timed(host, ROUND)
        yield


def first_round(lab: Lab) -> Figure:
    """Make 1,000 accounts with keys, ids and mappings where there was none."""
    host = lab.host(SERVER)
    with state_of(host, USERS):
        lines = "".join(f"u user{n:04} {30000 + n}\n" for n in range(USERS))
        host.write("/root/copy.conf", lines)
        floor = timed(host, "systemd-sysusers --root=/root/copy - </root/copy.conf")
        ours = timed(host, ROUND)
    return Figure(
        f"first round, {USERS} new accounts with keys",
        ours,
        floor,
        "systemd-sysusers making the same accounts in a copy of passwd, nothing else",
        "under 3 s",
    )


def empty_round(lab: Lab) -> Iterator[Figure]:
    """Nothing to do, for 1,000 users: as a program, and as the page's nudges have it."""
    host = lab.host(SERVER)
    what = f"round with nothing to do, {USERS} users"
    with _a_thousand_users(host):
        host.write("/root/bare_read.py", BARE_READ)
        host.write("/root/forked.py", FORKED)
        for how, ours in ((what, _alone), (f"{what}, by the loaded root helper", _forked)):
            medians = in_turn(
                lambda ours=ours: ours(host),  # type: ignore[misc]
                lambda: timed(host, "/usr/bin/python3 -IS /root/bare_read.py"),
                runs=7,
            )
            floor = "a bare Python that only reads the same files"
            yield Figure(how, *medians, floor, "under 0.15 s")
        host.sh("rm /root/bare_read.py /root/forked.py")


def _alone(host: Host) -> float:
    return timed(host, ROUND)


def _forked(host: Host) -> float:
    kinds = ROUND.partition(" ")[2]
    return float(host.sh(f"/usr/bin/python3 -IS /root/forked.py {kinds}").stdout.split()[-1])


def one_change(lab: Lab) -> Figure:
    """One user of 1,000 has another key."""
    host = lab.host(SERVER)
    number = iter(range(10**7, 10**8))
    sign = "git -C /root/state -c user.name=x -c user.email=x@x -c gpg.format=ssh"

    def ours() -> float:
        user, key = "/root/state/users/user0500.yaml", many_users.key(next(number))
        host.sh(f"""
            sed -i 's|^  - .*|  - {key} laptop|' {user}
            {sign} -c user.signingKey=/root/admin commit -q -S -a -m 'Another key'""")
        return timed(host, ROUND)

    with _a_thousand_users(host):
        medians = in_turn(ours, lambda: timed(host, ROUND), runs=5)
    return Figure(
        f"round after one user's change, {USERS} users",
        *medians,
        "the same round with nothing to do",
        "under 1 s",
    )


def check_10000(lab: Lab) -> Figure:
    """`lxc-gpu check` of a state with 10,000 users, in a pack, as every clone gets it by ssh."""
    host = lab.host(SERVER)
    host.sh(
        "rm -rf /root/big /root/big.git && mkdir /root/big && cd /root/big && tar x &&"
        " git init -q -b main && git add . &&"
        " git -c user.name=x -c user.email=x@x commit -q -m 'Ten thousand users' &&"
        " git clone -q --bare --no-local /root/big /root/big.git",
        stdin=many_users.as_tar(many_users.files(10_000, registered=False)),
        timeout=300,
    )
    medians = in_turn(
        lambda: timed(host, "lxc-gpu check /root/big.git"),
        lambda: timed(host, BARE_CHECK),
        runs=5,
    )
    host.sh("rm -rf /root/big /root/big.git")
    return Figure(
        "check a state of 10,000 users",
        *medians,
        "Git reads the same files, and Python imports pydantic",
        "under 1.0 s",
    )
