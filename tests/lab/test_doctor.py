"""`lxc-gpu doctor` on healthy machines, and on machines that are broken one thing at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pytest
from laboratory.directory.people import DORA, LQCHEN, OUTSIDER
from laboratory.hosts import Host
from laboratory.layout import SOURCE_INSIDE
from laboratory.wiring import GPU_SERVERS

from state.wire.findings import Finding, Level, from_json
from tests.lab.archives import TEMPLATES
from tests.lab.fleet import (
    CONTAINERS,
    EXTRA_PASSWD,
    KEYS,
    LOOKS,
    NO_OTHER_SOURCE,
    OTHER_SOURCE,
    STARTS_ROUNDS,
    Fleet,
)
from tests.patience import eventually

PIECE = "/etc/ssh/sshd_config.d/10-site.conf"
OTHER_PIECE = "/etc/ssh/sshd_config.d/11-site.conf"
MAIN = "/etc/ssh/sshd_config"
HOOK = "/var/lib/lxc-gpu/state.git/hooks/pre-receive"
LOCK = "/var/lib/lxc-gpu/state.git/refs/heads/main.lock"
SIGNING = "/etc/lxc-gpu/keys/signing"
PASSWORD = "/etc/lxc-gpu/ldap-password"  # the file's name
GATE = "/var/lib/lxc-gpu/gate_keys"
NO_ROUND = "! systemctl is-active --quiet lxc-gpu-reconcile.service"


@dataclass(frozen=True)
class Break:
    """One thing to break: how, how to mend it, and what the doctor has to say."""

    name: str
    do: str
    undo: str
    says: str
    hint: str
    host: str = "gpu17"
    group: int = 0
    """What is broken together with it; 0: all of a machine that doesn't hide one another."""


BREAKS = (
    Break("a drop before our hook", "iptables -I FORWARD 1 -j DROP", "iptables -D FORWARD -j DROP",
          "filter FORWARD: `-j DROP` comes before our rules", "lxc-gpu reconcile"),
    Break("forwarding off", "echo 0 >/proc/sys/net/ipv4/ip_forward",
          "echo 1 >/proc/sys/net/ipv4/ip_forward", "forwards no packets", "lxc-gpu reconcile"),
    Break("overlapping subuids", "echo alice:2001000000:65536 >>/etc/subuid",
          "sed -i /^alice:/d /etc/subuid", "/etc/subuid gives alice 2001000000 to 2001065535",
          "usermod --del-subuids 2001000000-2001065535 alice"),
    Break("no socket", "systemctl stop lxc-gpu-root.socket", "systemctl start lxc-gpu-root.socket",
          "lxc-gpu-root.socket is inactive: nobody can start a container",
          "systemctl enable --now lxc-gpu-root.socket"),
    Break("no template", f"mount -t tmpfs none {TEMPLATES}", f"umount {TEMPLATES}",
          "The template debian-12 is not on this server", "setup/template --release"),
    Break("sshd overridden", "printf 'Match all\\nAuthorizedKeysFile .ssh/authorized_keys\\n"
          f"Match all\\n' >{PIECE}",
          f"rm -f {PIECE}", "sshd has authorizedkeysfile '.ssh/authorized_keys'",
          f"{PIECE} is read before"),
    Break("sshd broken", f"echo 'Nonsense yes' >{PIECE}", f"rm -f {PIECE}",
          "sshd can't use its configuration", "sshd -t", group=1),
    Break("sshd answers elsewhere", f"echo Port 2222 >{OTHER_PIECE}; systemctl restart ssh",
          f"rm -f {OTHER_PIECE}; systemctl restart ssh",
          "sshd doesn't answer at 172.16.2.17, port 22", "ss -ltnp", group=4),
    Break("sshd lets others in by name", f"echo AllowUsers alice >{PIECE}", f"rm -f {PIECE}",
          "For register, iam, ann, lqchen, sshd refuses every key: `AllowUsers alice`",
          f"In {PIECE}:1, let groups in instead", group=4),
    Break("sshd is to listen elsewhere", "true", "true",
          "people and the web page connect to 172.16.2.17, port 22",
          f"Take `Port 2222` out of {OTHER_PIECE}", group=4),
    Break("sshd lets another group in", f"echo AllowGroups x >{PIECE}", f"rm -f {PIECE}",
          f"`AllowGroups x` ({PIECE}:1) names no group of theirs",
          "Add lxc-gpu-users, register and iam", group=5),
    Break("sshd listens on loopback", f"echo ListenAddress 127.0.0.1 >{OTHER_PIECE}",
          f"rm -f {OTHER_PIECE}", "listen at 127.0.0.1:22",
          f"Take `ListenAddress 127.0.0.1` ({OTHER_PIECE}:1) out", group=5),
    Break("sshd refuses somebody", f"echo 'DenyUsers i?m@*' >{PIECE}", f"rm -f {PIECE}",
          "For iam, sshd refuses every key: `DenyUsers i?m@*`", f"out of {PIECE}:1", group=6),
    Break("sshd reads nothing of ours", f"cp -p {MAIN} {MAIN}.kept; sed -i '/^Include/d' {MAIN}",
          f"mv {MAIN}.kept {MAIN}", "sshd has authorizedkeysfile '.ssh/authorized_keys ",
          "Write `Include /etc/ssh/sshd_config.d/*.conf` as the first line", group=7),
    Break("no account iam", "sed -i s/^iam:/away:/ /etc/passwd",
          "sed -i s/^away:/iam:/ /etc/passwd",
          "The account iam is missing: the web page can neither nudge", "setup/gpu-server",
          group=8),
    Break("nosuid", f"mount --bind {CONTAINERS} {CONTAINERS}; "
          f"mount -o remount,bind,nosuid {CONTAINERS}", f"umount -l {CONTAINERS}",
          "mounted nosuid: sudo doesn't work in containers", "remount,rw,suid"),
    Break("another host key", "cd /etc/lxc-gpu; cp -p known_hosts known_hosts.kept; "
          "sed -i \"s/ssh-ed25519 .*/$(cut -d' ' -f1-2 /etc/ssh/ssh_host_ed25519_key.pub"
          " | sed 's,/,\\\\/,g')/\" known_hosts",
          "cd /etc/lxc-gpu; mv known_hosts.kept known_hosts",
          "has another ssh host key than the pinned one", "--gate-host-key"),
    Break("a key that others read", "chmod 644 /etc/lxc-gpu/keys/state",
          "chmod 600 /etc/lxc-gpu/keys/state", "others may read it",
          "chmod 0600 /etc/lxc-gpu/keys/state"),
    Break("not our account", "gpasswd -d lqchen lxc-gpu-users",
          "usermod -aG lxc-gpu-users lqchen", "lqchen is also a local account",
          "usermod --append --groups lxc-gpu-users lqchen"),
    Break("a route", "ip route add 10.77.4.0/24 dev eth0", "ip route del 10.77.4.0/24 dev eth0",
          "10.77.0.0/16 overlaps 10.77.4.0/24, which is behind eth0", "fleet.yaml"),
    Break("hidden programs", "mount -o remount,hidepid=2 /proc", "mount -o remount,hidepid=0 /proc",
          "hidepid=", "hidepid=0 /proc"),
    Break("subordinate ids from elsewhere", "echo subid: sss >>/etc/nsswitch.conf",
          "sed -i /^subid/d /etc/nsswitch.conf", "Subordinate ids come from sss", "subid: files"),
    Break("another source has our ids", OTHER_SOURCE
          + f"; echo 'lqchen:x:2001000005:100::/:/bin/sh' >{EXTRA_PASSWD}", NO_OTHER_SOURCE,
          "lqchen has the uid 2001000005, which is in the range of", "another uid"),
    Break("no login shell", "mv /usr/local/lib/lxc-gpu/login-shell /root/away",
          "mv /root/away /usr/local/lib/lxc-gpu/login-shell",
          "login shell of the manage accounts doesn't run", "setup/gpu-server", group=2),
    Break("a container that was killed", "systemctl kill --signal=KILL lxc-gpu@lqchen; sleep 1",
          "systemctl reset-failed lxc-gpu@lqchen; "
          "runuser -u lqchen -- /usr/local/lib/lxc-gpu/login-shell -c start",
          "The container of lqchen failed", "lxc-gpu doctor --user lqchen", group=3),
    Break("the page is down", "systemctl stop lxc-gpu-web.socket", "systemctl start lxc-gpu-web",
          "lxc-gpu-web.socket is inactive: nobody can save keys",
          "systemctl restart lxc-gpu-web.service", host="iam"),
    Break("no hook", f"mv {HOOK} {HOOK}.away", f"mv {HOOK}.away {HOOK}",
          "pre-receive hook is missing: pushes aren't checked", "setup/web-server", host="iam"),
    Break("a lock of a Git that was killed",
          f"runuser -u lxc-gpu -- touch -d '5 minutes ago' {LOCK}", f"rm {LOCK}",
          "prevents pushes; the Git that made it has ended", f"rm {LOCK}", host="iam"),
    Break("a hook that doesn't run", f"chmod 644 {HOOK}", f"chmod 755 {HOOK}",
          "pre-receive hook isn't executable", "chmod 755", host="iam", group=1),
    Break("an unknown signing key", f"cp -p {SIGNING} {SIGNING}.away; rm {SIGNING}; "
          f"ssh-keygen -q -t ed25519 -N '' -f {SIGNING}.new; mv {SIGNING}.new {SIGNING}; "
          f"rm {SIGNING}.new.pub; chown lxc-gpu: {SIGNING}", f"mv {SIGNING}.away {SIGNING}",
          "signing key is not among the signers", "role: iam", host="iam"),
    Break("a key that the page can't read", f"chown root: {SIGNING}", f"chown lxc-gpu: {SIGNING}",
          "The page can't sign", "setup/web-server", host="iam", group=1),
    Break("the wrong LDAP password", f"cp -p {PASSWORD} {PASSWORD}.away; echo wrong >{PASSWORD}",
          f"mv {PASSWORD}.away {PASSWORD}", "refuses the service account", "ldapwhoami",
          host="iam"),
    Break("stale keys at the gate", f"cp -p {GATE} {GATE}.away; sed -i '$d' {GATE}",
          f"mv {GATE}.away {GATE}", "from the keys in the state: 1 missing", "setup/web-server",
          host="iam"),
    Break("a setting misspelled", "cp -p /etc/lxc-gpu/web.toml /etc/lxc-gpu/web.away; "
          "sed -i s/public_url/publik_url/ /etc/lxc-gpu/web.toml",
          "mv /etc/lxc-gpu/web.away /etc/lxc-gpu/web.toml", "unknown field `publik_url`",
          "Edit /etc/lxc-gpu/web.toml", host="iam", group=2),
)  # fmt: skip


@pytest.fixture(scope="module")
def healthy(fleet: Fleet) -> Iterator[Fleet]:
    """The lab as it usually is, but held still: so what a test breaks, nothing else mends."""
    hosts = [fleet.lab.host(name) for name in GPU_SERVERS]
    with ExitStack() as stack:
        for host in hosts:
            host.sh(f"systemctl start {STARTS_ROUNDS} {LOOKS}; cp {KEYS}/.iam {KEYS}/iam")
            stack.callback(host.sh, f"systemctl stop {STARTS_ROUNDS} {LOOKS}; rm -f {KEYS}/iam")
        for host in hosts:
            eventually(lambda host=host: host.sh(NO_ROUND, check=False).ok, 30)  # type: ignore[misc]
            host.sh("lxc-gpu reconcile; lxc-gpu suspend --reason 'the tests break things'")
            stack.callback(host.sh, "lxc-gpu resume; lxc-gpu reconcile")
        assert fleet.types("ssh gpu17-manage start").ok
        yield fleet


def examined(host: Host, *words: str) -> list[Finding]:
    """What the doctor finds; its exit status has to agree."""
    done = host.run(["lxc-gpu", "doctor", "--json", *words], check=False)
    assert done.stderr == ""
    findings = from_json(done.stdout)
    assert done.status == any(f.level is Level.WRONG for f in findings)
    assert json.loads(done.stdout)["healthy"] == done.ok
    return findings


def wrong(findings: list[Finding]) -> dict[str, str]:
    """What is wrong, with the hints."""
    return {f.text: f.hint for f in findings if f.level is Level.WRONG}


def texts(findings: list[Finding]) -> str:
    """Everything that was said."""
    return "\n".join(f"{f.level} {f.area} {f.text}" for f in findings)


@contextmanager
def broken(host: Host, *all_: Break) -> Iterator[None]:
    """Break these, and put all back whatever happens, the last one first."""
    with ExitStack() as stack:
        for each in all_:
            stack.callback(host.sh, each.undo)
            host.sh(each.do)
        yield


def together() -> dict[str, tuple[Break, ...]]:
    """The breaks that are made together, by a name for all of them."""
    groups: dict[tuple[str, int], list[Break]] = {}
    for each in BREAKS:
        groups.setdefault((each.host, each.group), []).append(each)
    return {
        f"{host}-{found[0].name}{f'-and-{len(found) - 1}-more' * (len(found) > 1)}".replace(
            " ", "-"
        ): tuple(found)
        for (host, _), found in groups.items()
    }


@pytest.mark.parametrize("name", ["gpu17", "gpu18", "iam"])
def test_nothing_is_wrong_with_healthy_machines(healthy: Fleet, name: str) -> None:
    findings = examined(healthy.lab.host(name))
    assert wrong(findings) == {}
    assert len(findings) > 12


@pytest.mark.parametrize("breaks", together().values(), ids=together())
def test_what_is_broken_is_named_with_what_to_do(healthy: Fleet, breaks: tuple[Break, ...]) -> None:
    host = healthy.lab.host(breaks[0].host)
    with broken(host, *breaks):
        found = wrong(examined(host))
    unnamed = [
        each.name
        for each in breaks
        if not any(each.says in text and each.hint in hint for text, hint in found.items())
    ]
    assert unnamed == [], found


def test_everything_was_put_back(healthy: Fleet) -> None:
    for name in ("gpu17", "iam"):
        eventually(lambda name=name: not wrong(examined(healthy.lab.host(name))), 20)  # type: ignore[misc]


def test_a_directory_that_is_down(healthy: Fleet) -> None:
    ldap = healthy.lab.host("ldap")
    with broken(ldap, Break("", "systemctl stop slapd", "systemctl start slapd", "", "")):
        found = wrong(examined(healthy.iam))
        asked = wrong(examined(healthy.iam, "--login", "ann"))
    for each in (found, asked):
        (text,) = each
        assert "ldap://ldap.mylab.com doesn't answer" in text


def test_a_server_that_is_down(healthy: Fleet) -> None:
    stop = Break("", "systemctl stop ssh.socket ssh.service || systemctl stop ssh.service",
                 "systemctl start ssh.service", "", "")  # fmt: skip
    with broken(healthy.gpu18, stop):
        ((text, hint),) = wrong(examined(healthy.iam)).items()
    assert "Then run `lxc-gpu doctor` on it" in hint, "more than that it will catch up"
    assert text.startswith("gpu18 (172.16.2.18, port 22) ")


def test_a_wrong_address_in_the_state(healthy: Fleet) -> None:
    again = "lxc-gpu resume; lxc-gpu reconcile; lxc-gpu suspend --reason 'the tests break things'"
    file = "servers/gpu17.yaml"
    healthy.commits("Mistype", f"sed -i s/172.16.2.17$/172.16.2.71/ {file}")
    try:
        healthy.gpu17.sh(again)
        found = wrong(examined(healthy.gpu17))
    finally:
        healthy.commits("Correct", f"sed -i s/172.16.2.71$/172.16.2.17/ {file}")
        healthy.gpu17.sh(again)
    (text,) = (text for text in found if "says 172.16.2.71" in text)
    assert "servers/gpu17.yaml" in found[text]
    assert "172.16.2.17." in found[text]


class TestUser:
    def test_all_is_well(self, healthy: Fleet) -> None:
        findings = examined(healthy.gpu17, "--user", "lqchen")
        assert wrong(findings) == {}
        said = texts(findings)
        assert "registered here: uid 20" in said
        assert "its sshd answers at 10.77." in said
        assert "leads to the container" in said
        assert "SHA256:" in said

    def test_a_stranger_and_somebody_who_is_elsewhere(self, healthy: Fleet) -> None:
        (text,) = wrong(examined(healthy.gpu17, "--user", "nobody-at-all"))
        assert "is not a user of the fleet" in text
        (text,) = wrong(examined(healthy.gpu18, "--user", "ann"))
        assert "ann is not registered on gpu18" in text

    def test_a_key_that_is_gone_and_a_port_that_leads_nowhere(self, healthy: Fleet) -> None:
        away = Break("", f"mv {KEYS}/lqchen {KEYS}/.away; iptables -t nat -F LXC-GPU-DNAT",
                     f"mv {KEYS}/.away {KEYS}/lqchen; lxc-gpu resume; lxc-gpu reconcile; "
                     "lxc-gpu suspend --reason 'the tests break things'", "", "")  # fmt: skip
        with broken(healthy.gpu17, away):
            found = "\n".join(wrong(examined(healthy.gpu17, "--user", "lqchen")))
        assert "1 of 1 saved keys are not in /etc/lxc-gpu/authorized_keys/lqchen" in found
        assert "doesn't lead to the container" in found

    def test_a_container_whose_port_is_off_the_bridge(self, healthy: Fleet) -> None:
        port = "$(basename /sys/class/net/veth$(id -u lqchen)_*)"
        off = Break(
            "", f"ip link set {port} nomaster",
            f"ip link set {port} master lxcgpu0; bridge link set dev {port} hairpin on", "", "",
        )  # fmt: skip
        with broken(healthy.gpu17, off):
            for words in ([], ["--user", "lqchen"]):
                found = wrong(examined(healthy.gpu17, *words))
                said = "\n".join(found)
                assert "The container of lqchen runs, but its port veth" in said
                assert "is not on the bridge lxcgpu0: nobody reaches it." in said
                assert "sshd" not in said

    def test_a_container_whose_sshd_is_gone(self, healthy: Fleet) -> None:
        kill = Break("", "for p in $(pgrep -x sshd); do grep -q lqchen /proc/$p/cgroup && "
                     "kill -STOP $p && echo $p >>/run/stopped; done; true",
                     "xargs kill -CONT </run/stopped; rm /run/stopped", "", "")  # fmt: skip
        with broken(healthy.gpu17, kill):
            found = "\n".join(wrong(examined(healthy.gpu17, "--user", "lqchen")))
        assert "nothing answers at 10.77." in found

    def test_what_a_container_answers_does_nothing_to_the_terminal(self, healthy: Fleet) -> None:
        """Its owner decides what listens at its port 22."""
        fake = Break("", "ip address add 10.77.0.9/32 dev lo; iptables -t nat -I OUTPUT 1 -p tcp "
                     "--dport 22 -d 10.77.0.0/16 -j DNAT --to-destination 10.77.0.9:2222; "
                     "systemd-run -q --unit=fake python3 -c \"import socket\nwith socket."
                     "create_server(('10.77.0.9', 2222)) as s:\n  while True: "
                     "s.accept()[0].sendall(b'SSH-\\x1b]0;owned\\x07\\x1b[31m')\"; sleep 1",
                     "systemctl stop fake; ip address del 10.77.0.9/32 dev lo; "
                     "iptables -t nat -D OUTPUT 1", "", "")  # fmt: skip
        with broken(healthy.gpu17, fake):
            done = healthy.gpu17.run(["lxc-gpu", "doctor", "--user", "lqchen"], check=False)
        assert "SSH-�]0;owned��[31m" in done.stdout
        assert "\x1b" not in done.stdout

    def test_what_sshd_refuses_is_not_blamed_on_the_key(self, healthy: Fleet) -> None:
        """B3: nobody is told to save a key that is saved; the way out is a line of sshd's."""
        deny = Break("", f"echo AllowUsers alice >{PIECE}; systemctl reload ssh",
                     f"rm {PIECE}; systemctl reload ssh", "", "")  # fmt: skip
        with broken(healthy.gpu17, deny):
            assert not healthy.types("ssh gpu17-manage status").ok
            eventually(lambda: "not allowed" in texts(examined(healthy.gpu17, "--user", "lqchen")))
            found = examined(healthy.gpu17, "--user", "lqchen")
            page = wrong(examined(healthy.iam))
        (text,) = (text for text in wrong(found) if "sshd refuses" in text)
        assert text.startswith("For lqchen, sshd refuses every key: `AllowUsers alice`")
        refused = [f.hint for f in found if "not allowed" in f.text]
        assert refused == ["sshd refuses them whatever key they have: see above."]
        assert "On gpu17: `lxc-gpu doctor` checks" in page["gpu17 doesn't let the web page in."]

    def test_a_refused_key_shows_up(self, healthy: Fleet) -> None:
        healthy.types("ssh -l lqchen gpu17-manage status", user="ann")
        eventually(lambda: "refused: " in texts(examined(healthy.gpu17, "--user", "lqchen")))


class TestLogin:
    def test_directly_and_by_way_of_a_group(self, healthy: Fleet) -> None:
        chen = examined(healthy.iam, "--login", LQCHEN.login.lower())
        assert wrong(chen) == {}
        assert "uid=LQChen,ou=people" in texts(chen)
        assert "is the user lqchen: " in texts(chen)
        dora = examined(healthy.iam, "--login", DORA.login)
        assert wrong(dora) == {}
        assert "through cn=vision-lab < cn=gpu-users" in texts(dora)

    def test_an_outsider_a_stranger_and_nonsense(self, healthy: Fleet) -> None:
        (text,) = wrong(examined(healthy.iam, "--login", OUTSIDER.login))
        assert "In none of the groups in `allow_groups` (cn=gpu-users)" in text
        (text,) = wrong(examined(healthy.iam, "--login", "nobody-at-all"))
        assert "No entry matches (uid=nobody-at-all)" in text
        (text,) = wrong(examined(healthy.iam, "--login", "*"))
        assert "'*' can't be a login" in text


def test_the_options_belong_to_their_machines(healthy: Fleet) -> None:
    for name, option in (("iam", "--user"), ("gpu17", "--login")):
        done = healthy.lab.host(name).run(["lxc-gpu", "doctor", option, "x"], check=False)
        assert done.status == 1
        assert "This machine is not a " in done.stderr


def test_set_up_puts_nothing_in_place_that_sshd_refuses(healthy: Fleet) -> None:
    ours = "/etc/ssh/sshd_config.d/20-lxc-gpu.conf"
    spoil = Break("", f"cp -p {ours} /root; echo '# old' >>{ours}; echo 'Nonsense yes' >{PIECE}",
                  f"rm {PIECE}; mv /root/20-lxc-gpu.conf {ours}", "", "")  # fmt: skip
    with broken(healthy.gpu17, spoil):
        before = healthy.gpu17.sh(f"ls -li {ours}").stdout
        done = healthy.gpu17.sh(f"{SOURCE_INSIDE}/setup/gpu-server", timeout=300, check=False)
        assert "sshd refuses its configuration with ours in it" in done.stderr
        assert healthy.gpu17.sh(f"ls -li {ours}").stdout == before, "not even for a moment"


def test_it_needs_root_and_says_so(healthy: Fleet) -> None:
    done = healthy.gpu17.sh("runuser -u nobody -- lxc-gpu doctor", check=False)
    assert done.status == 1
    assert "Use sudo." in done.stderr
