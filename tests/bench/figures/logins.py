"""What a researcher waits for; run on the laptop of the lab, after the story."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import median
from urllib.parse import urlencode
from urllib.request import urlopen

from laboratory.demo.story import NAME
from laboratory.directory.people import LQCHEN, LabPerson
from laboratory.hosts import Lab
from laboratory.layout import LAPTOP_USER

from tests.bench.measure import Figure, in_turn, seconds
from tests.bench.quiet import LONGEST, page_running, until_quiet

KEYS = f"/home/{LAPTOP_USER}/.ssh"
OF_TRUE = "ssh ... true on the same host"
TIMED = """
begun=${EPOCHREALTIME/./}
until "$@" </dev/null >/dev/null 2>&1; do
    [ $((${EPOCHREALTIME/./} - begun)) -lt 60000000 ] || exit 1
done
echo $((${EPOCHREALTIME/./} - begun))
"""
"""Microseconds until a command succeeds, a minute at most."""
BARE_START = """
systemd-run --quiet --unit=bare-start --uid=lqchen --property=Delegate=yes \\
    --property=KillSignal=SIGRTMIN+3 --property=KillMode=mixed \\
    lxc-start -F -n lqchen -f /run/lxc-gpu/lqchen.config
until exec 3<>/dev/tcp/$1/22 && read -r banner <&3; do sleep 0.01; done 2>/dev/null
"""
BARE = "/usr/bin/python3 -IS -c pass"
BARE_PORT = 7717
BARE_UNIT = {
    "bench-bare.socket": f"[Socket]\nListenStream=127.0.0.1:{BARE_PORT}\nAccept=yes\n",
    "bench-bare@.service": f"[Service]\nExecStart={BARE}\nStandardInput=socket\n",
}


def on_laptop(lab: Lab, *argv: str) -> float:
    """Seconds until `argv`, run on the laptop by its user, succeeds."""
    words = ["bash", "-euc", TIMED, "bash", *argv]
    return int(lab.host("laptop").run(words, user=LAPTOP_USER, timeout=90).stdout) / 1e6


def start(lab: Lab) -> None:
    """Have the container run."""
    on_laptop(lab, "ssh", "gpu17-manage")


@contextmanager
def root_opens(lab: Lab) -> Iterator[None]:
    """root@gpu17 opens with the laptop's key, for bare commands over the same ssh."""
    host, key = lab.host("gpu17"), lab.host("laptop").read(f"{KEYS}/id_ed25519.pub")
    host.write("/root/.ssh/authorized_keys", key, 0o600)
    try:
        yield
    finally:
        host.run(["rm", "/root/.ssh/authorized_keys"])


def manage_while_running(lab: Lab) -> Iterator[Figure]:
    """`ssh gpu17-manage` on a container that runs; then the same without its ssh, beside the least
    that it could be: a program that asks, a unit that answers; and the user's own shell, which it
    runs inside to see whether a login works.
    """
    start(lab)
    with root_opens(lab), _bare_unit(lab) as asks:
        root = "root@gpu17-manage"
        logins = ("gpu17-manage",), (root, "true"), (root, asks), (root, f"{asks}; {_shell(lab)}")
        taken = [_each_once(lab, logins, turn) for turn in range(16)]
    ours, of_true, *_ = zip(*taken, strict=True)
    yield Figure(
        "ssh gpu17-manage, container running", median(ours), median(of_true), OF_TRUE,
        "within 0.1 s of the floor",
    )  # fmt: skip
    floor = "two bare `python3 -IS -c pass`, one of them a socket-activated unit's"
    for number, floor_of in ((2, floor), (3, f"{floor}; the user's shell inside")):
        yield Figure(
            "the same beyond `ssh ... true`",
            median(ours - of_true for ours, of_true, *_ in taken),
            median(each[number] - each[1] for each in taken),
            floor_of,
            "within 2.0: docs/design.md says why",
        )


def _shell(lab: Lab) -> str:
    """The command that runs the user's shell in the container, with its start-up files."""
    host = lab.host("gpu17")
    main = "systemctl show --property=MainPID --value lxc-gpu@lqchen"
    (init,) = host.sh(f"m=$({main}); cat /proc/$m/task/$m/children").stdout.split()
    return (
        f"nsenter --target={init} --all --setuid=1000 --setgid=1000 env --ignore-environment"
        " HOME=/home/lqchen USER=lqchen TERM=dumb bash -l -i -c 'echo here' 2>&1"
    )


def _each_once(lab: Lab, logins: Sequence[Sequence[str]], turn: int) -> list[float]:
    """Seconds of each login, in their order. Which one is first depends on the turn: what one
    leaves to be cleared up falls to the next.
    """
    order = [(turn + number) % len(logins) for number in range(len(logins))]
    taken = {number: on_laptop(lab, "ssh", *logins[number]) for number in order}
    return [taken[number] for number in range(len(logins))]


@contextmanager
def _bare_unit(lab: Lab) -> Iterator[str]:
    """A unit that a connection starts; the command that runs a bare Python, then waits for it."""
    host = lab.host("gpu17")
    for name, text in BARE_UNIT.items():
        host.write(f"/run/systemd/system/{name}", text)
    host.sh("systemctl daemon-reload; systemctl start bench-bare.socket")
    try:
        yield f"bash -c '{BARE}; exec 3<>/dev/tcp/127.0.0.1/{BARE_PORT}; read -ru 3 || :'"
    finally:
        files = " ".join(f"/run/systemd/system/{name}" for name in BARE_UNIT)
        host.sh(f"systemctl stop bench-bare.socket; rm {files}; systemctl daemon-reload")


def only_looking(lab: Lab, verb: str) -> Figure:
    """`ssh gpu17-manage VERB` for a verb that changes nothing."""
    medians = _beside_true(lab, "gpu17-manage", verb)
    target = "0.2 s more: CPU use is looked at twice" if verb == "gpus" else "within 0.1 s"
    return Figure(f"ssh gpu17-manage {verb}", *medians, OF_TRUE, target)


def _beside_true(lab: Lab, *words: str) -> tuple[float, float]:
    """The medians of `ssh WORDS`, on a container that runs, and of a bare `true`."""
    start(lab)
    with root_opens(lab):
        return in_turn(
            lambda: on_laptop(lab, "ssh", *words),
            lambda: on_laptop(lab, "ssh", "root@gpu17-manage", "true"),
            runs=9,
        )


def cold_start(lab: Lab) -> Figure:
    """`ssh gpu17-manage` on a stopped container until its sshd answers."""
    start(lab)  # writes its configuration
    host = lab.host("gpu17")
    found = re.search(r"ipv4.address = ([\d.]+)/", host.read("/run/lxc-gpu/lqchen.config"))
    assert found is not None
    host.write("/root/bare-start", BARE_START)
    address = found[1]

    def ours() -> float:
        host.run(["systemctl", "stop", "lxc-gpu@lqchen"])
        return on_laptop(lab, "ssh", "gpu17-manage")

    def floor() -> float:
        host.run(["systemctl", "stop", "lxc-gpu@lqchen"])
        host.run(["/usr/local/lib/lxc-gpu/attach", "lqchen"])  # it goes with the container
        taken = on_laptop(lab, "ssh", "root@gpu17-manage", f"bash /root/bare-start {address}")
        host.run(["systemctl", "stop", "bare-start"])
        return taken

    with root_opens(lab):
        medians = in_turn(ours, floor, runs=5)
    start(lab)
    return Figure(
        "ssh gpu17-manage, cold, until sshd answers", *medians,
        "lxc-start of the same configuration over the same ssh, until the same", "within 1.3",
    )  # fmt: skip


def save_to_login(lab: Lab) -> Figure:
    """From "save" on the page until the new key opens the running container."""
    start(lab)
    laptop = lab.host("laptop")
    old = laptop.read(f"{KEYS}/id_ed25519.pub").strip()
    number = iter(range(100))

    def ours() -> float:
        until_quiet(lab)
        file = f"{KEYS}/bench{next(number)}"
        make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "bench", "-f", file]
        laptop.run(make, user=LAPTOP_USER)
        new = laptop.read(f"{file}.pub").strip()
        options = ("IdentitiesOnly=yes", "StrictHostKeyChecking=no", "BatchMode=yes")
        given = [word for option in options for word in ("-o", option)]
        login = ["ssh", "-F", "none", "-i", file, *given, *_place(lab), "true"]
        return seconds(lambda: save(lab, LQCHEN, f"{old}\n{new}")) + on_laptop(lab, *login)

    def floor() -> float:
        until_quiet(lab)
        return on_laptop(lab, "ssh", "gpu17", "true")

    with page_running(lab):
        try:
            medians = in_turn(ours, floor, runs=5)
        finally:
            save_everywhere(lab, LQCHEN, old)
            laptop.sh(f"rm -f {KEYS}/bench*")
    return Figure(
        "save on the page until the key opens a container", *medians,
        "one login to the container", "under 1.0 s",
    )  # fmt: skip


def _place(lab: Lab) -> list[str]:
    config = lab.host("laptop").read(f"{KEYS}/lxc-gpu.config")
    port = re.search(r"Host gpu17\n(?:    .*\n)*?    Port (\d+)", config)
    assert port is not None
    return ["-p", port[1], f"{NAME}@gpu17"]


def save(lab: Lab, person: LabPerson, keys: str) -> str:
    """Save the person's keys on the page, which nudges the servers; the result's address."""
    form = {"login": person.login, "password": person.password, "keys": keys}
    url = f"{lab.web_url.rstrip('/')}/user/{person.login.lower()}"
    with urlopen(url, urlencode(form).encode()) as answer:
        assert "/save/" in answer.url
        return str(answer.url)


def save_everywhere(lab: Lab, person: LabPerson, keys: str) -> None:
    """The same, and wait until every server's round for it has ended."""
    with urlopen(f"{save(lab, person, keys)}/events", timeout=LONGEST) as events:
        events.read()
