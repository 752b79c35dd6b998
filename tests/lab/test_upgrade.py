"""A lab of an earlier release becomes one of this checkout, a machine at a time, and all goes on.

The lab is made by that release's own `setup/lab`, from a clone of this repository. gpu17 is
upgraded before the web machine and gpu18 after it, so both orders are here: a new server with an
old web machine, and a new web machine with an old server. `LXC_GPU_UPGRADE_FROM=701e1f3` begins at
another revision.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from laboratory.directory.people import LQCHEN
from laboratory.layout import DOMAIN, SOURCE_INSIDE
from laboratory.machines.host import Host
from laboratory.wiring import CLONE, GPU_SERVERS

from state.errors import LxcGpuError
from state.wire.findings import Level, from_json
from tests.lab import upgrading
from tests.lab.fleet import BARE, Fleet, plan, reconcile, running
from tests.lab.upgrading import RELEASE
from tests.patience import eventually

ORDER = ("gpu17", "iam", "gpu18")
INTERRUPTED = ("gpu17", "iam")
AT_A_TIME = 3
"""Files and links that a set-up puts in place before it is killed; its mark is the first."""
GATE_KEYS = "/var/lib/lxc-gpu/gate_keys"
PAGE = f"http://iam.{DOMAIN}"
PATIENCE = 60
MOST = 60
"""How often the set-ups may be interrupted before they come to their end."""
OF_OLD = RELEASE.startswith("701e1f3")
"""The first release: no monitor, and containers whose MAC is the kernel's."""
NO_VIEW = "has not been set up from the state repository yet"
"""What a server says whose set-up was killed before the view is as the new release reads it."""
RUNS = """
export SSH_ORIGINAL_COMMAND=nonsense
for request in 'iam' 'register lqchen' 'login-shell -c help'; do
    said=$(runuser -u nobody -- /usr/local/lib/lxc-gpu/$request 2>&1 </dev/null) || true
    case $said in *Traceback*|*'not executable'*|*'No such file'*) echo "$request: $said" ;; esac
done
lxc-gpu status >/dev/null || echo "lxc-gpu status"
"""
"""Prints which executables on a GPU server don't run."""


@dataclass
class Upgrade:
    """How far the lab has come, and what was seen on the way."""

    fleet: Fleet
    job: str
    """The pid of a program in lqchen's container, which was started before everything."""
    container: str
    """The pid of that container on gpu17."""
    wrong: dict[str, set[str]]
    """What the doctor found wrong on each machine beforehand."""
    done: list[str] = field(default_factory=list)
    interruptions: int = 0
    broken: list[str] = field(default_factory=list)
    """What didn't work after an interruption."""
    services: dict[str, str] = field(default_factory=dict)

    def reach(self, name: str) -> None:
        """Upgrade machines in order, as far as this one, with interruptions."""
        for host in map(self.fleet.lab.host, ORDER[: ORDER.index(name) + 1]):
            if host.name in self.done:
                continue
            assert host.name not in self.services, "its upgrade failed before"
            self.services[host.name] = services(host)
            upgrading.bring_checkout(host)
            while host.name in INTERRUPTED and upgrading.killed_on_the_way(host, AT_A_TIME):
                self.interruptions += 1
                self.broken += self._broken(host)
                assert self.interruptions < MOST, "it comes no further"
            host.run([upgrading.script(host)], timeout=300)
            self.done.append(host.name)

    def _broken(self, host: Host) -> list[str]:
        when = f"interruption {self.interruptions} on {host.name}"
        if host.name == "iam":
            try:
                signed_push(self.fleet, when)
            except (LxcGpuError, AssertionError) as error:
                return [f"{when}: push: {error}"]
            return []
        failed = host.sh(RUNS).stdout.splitlines()
        asked = self.fleet.types(f"ssh {host.name}-manage status")
        if not asked.ok and not (OF_OLD and NO_VIEW in asked.stderr):
            failed.append(asked.stderr)
        return [f"{when}: {line}" for line in failed]


def services(host: Host) -> str:
    """The main programs of the services that run all the time."""
    words = "systemctl show -p MainPID --value lxc-gpu-watch lxc-gpu-web"
    return host.sh(words).stdout


def tip(fleet: Fleet) -> str:
    return fleet.iam.sh(f"git -c safe.directory='*' -C {BARE} rev-parse main").stdout.strip()


def revision(host: Host) -> str:
    """Which revision a server has."""
    return str(json.loads(host.read("/var/lib/lxc-gpu/view.json"))["revision"])


def arrives(fleet: Fleet) -> None:
    """The newest revision comes to both servers without a word."""
    newest = tip(fleet)
    for name in GPU_SERVERS:
        host = fleet.lab.host(name)
        eventually(lambda host=host: revision(host) == newest, PATIENCE)  # type: ignore[misc]


def signed_push(fleet: Fleet, message: str) -> None:
    """A sysadmin's push goes through both hooks, of which the second renews the gate's keys."""
    whole = fleet.iam.read(GATE_KEYS)
    fleet.iam.sh(f"sed -i '$d' {GATE_KEYS}")
    fleet.commits_at_last(message, f"echo '# {message}' >>fleet.yaml")
    said = fleet.iam.read(GATE_KEYS)
    assert keys(said) == keys(whole), said


def keys(authorized_keys: str) -> list[tuple[str, str]]:
    """Who has which key, whatever command it opens."""
    lines = [line for line in authorized_keys.splitlines() if line and line[0] != "#"]
    return [(" ".join(line.split('"')[1].split()[-2:]), line.split('"')[2]) for line in lines]


def registers(fleet: Fleet, name: str, server: str) -> None:
    done = fleet.register(name, server)
    assert done.ok, done.stderr
    assert "ready" in done.stdout


def wrong(host: Host) -> set[str]:
    """What the doctor finds wrong."""
    found = from_json(host.run(["lxc-gpu", "doctor", "--json"], check=False).stdout)
    return {f"{each.area}: {each.text}" for each in found if each.level is Level.WRONG}


@pytest.fixture(scope="module")
def upgrade() -> Iterator[Upgrade]:
    """The lab of the earlier release; lqchen's container runs on gpu17, and a program in it."""
    try:
        fleet = Fleet(upgrading.set_up())
        for name in ("lqchen", "ann"):
            fleet.introduce(name)
        fleet.rounds()
        done = fleet.register("lqchen", "gpu17")
        assert done.ok, done.stderr
        assert fleet.types("ssh gpu17-manage start").ok
        job = fleet.types("ssh gpu17 'setsid sleep 1000000 >/dev/null 2>&1 </dev/null & echo $!'")
        found = {name: set() if OF_OLD else wrong(fleet.lab.host(name)) for name in ORDER}
        yield Upgrade(fleet, job.stdout.strip(), container(fleet.gpu17), found)
    finally:
        upgrading.tear_down()


def container(host: Host) -> str:
    return host.sh("systemctl show -p MainPID --value lxc-gpu@lqchen").stdout.strip()


class Everything:
    """What users and machines do, as long as the lab is in this state."""

    upgraded: str
    """The machine that was upgraded last."""

    @pytest.fixture(autouse=True)
    def reached(self, upgrade: Upgrade) -> Fleet:
        upgrade.reach(self.upgraded)
        return upgrade.fleet

    def test_an_upgrade_that_is_interrupted_breaks_nothing(self, upgrade: Upgrade) -> None:
        assert upgrade.interruptions > 1
        assert upgrade.broken == []

    def test_the_container_runs_on(self, upgrade: Upgrade, reached: Fleet) -> None:
        assert container(reached.gpu17) == upgrade.container
        done = reached.types("ssh gpu17-manage status --json")
        assert done.ok, done.stderr
        assert json.loads(done.stdout)["running"] is True

    def test_one_can_log_in(self, upgrade: Upgrade, reached: Fleet) -> None:
        done = reached.types(f"ssh -o ConnectTimeout=10 gpu17 cat /proc/{upgrade.job}/comm")
        assert done.stdout == "sleep\n", done.stderr

    def test_a_key_is_saved_and_opens_the_server(self, reached: Fleet) -> None:
        key = f"~/.ssh/after-{self.upgraded}"
        location = reached.types(f"""
            ssh-keygen -q -t ed25519 -N '' -f {key}
            page={PAGE}/user/lqchen
            keys=$(curl -fsS $page/.ssh/authorized_keys; cat {key}.pub)
            shown=$(curl -fsS $page | sed -n 's/.*name="shown" value="\\([^"]*\\)".*/\\1/p')
            curl -fsS -o /dev/null -w '%{{redirect_url}}' --data-urlencode "keys=$keys" \\
                --data-urlencode "shown=$shown" --data-urlencode 'login={LQCHEN.login}' \\
                --data-urlencode 'password={LQCHEN.password}' $page""")
        assert "/save/" in location.stdout, location.stdout + location.stderr

        def everywhere() -> bool:
            result = reached.types(f"curl -fsS {location.stdout}").stdout
            return result.count("converged") >= len(GPU_SERVERS)

        eventually(everywhere, PATIENCE)
        arrives(reached)
        done = reached.types(f"ssh -i {key} -o IdentitiesOnly=yes gpu17-manage status")
        assert done.ok, done.stderr

    def test_a_signed_push_through_the_hooks(self, reached: Fleet) -> None:
        signed_push(reached, f"After {self.upgraded}")
        arrives(reached)

    @pytest.mark.skipif(OF_OLD, reason="it has no monitor")
    def test_the_page_hears_both_servers(self, reached: Fleet) -> None:
        begun = time.time()

        def both() -> bool:
            shown = json.loads(reached.iam.run(["lxc-gpu", "status", "--json"]).stdout)
            loads = [each["load"] for each in shown["servers"] if each["silent_since"] is None]
            return len([load for load in loads if load and load["at"] > begun]) == 2

        eventually(both, PATIENCE)


class TestOneServer(Everything):
    """gpu17 is new, the web machine and gpu18 are old."""

    upgraded = "gpu17"

    def test_the_new_server_registers_at_the_old_gate(self, reached: Fleet) -> None:
        registers(reached, "ann", "gpu17")


class TestWebMachine(Everything):
    """The web machine is new as well, gpu18 is old."""

    upgraded = "iam"

    def test_the_old_server_registers_at_the_new_gate(self, reached: Fleet) -> None:
        registers(reached, "lqchen", "gpu18")

    def test_an_unsigned_push_is_refused(self, reached: Fleet) -> None:
        before = tip(reached)
        done = reached.laptop.sh(
            f"""cd {CLONE}; git fetch -q; git reset -q --hard origin/main
            echo '# unsigned' >>fleet.yaml; git -c commit.gpgSign=false commit -qam unsigned
            git push""",
            check=False,
        )
        assert not done.ok
        assert "it is unsigned" in done.stderr
        assert tip(reached) == before


class TestAll(Everything):
    """All is new."""

    upgraded = "gpu18"

    def test_rounds_converge(self, reached: Fleet) -> None:
        for name in GPU_SERVERS:
            host = reached.lab.host(name)
            assert reconcile(host).ok
            assert plan(host) == []

    @pytest.mark.parametrize("name", ORDER)
    def test_the_doctor_finds_no_more(self, upgrade: Upgrade, name: str, reached: Fleet) -> None:
        assert wrong(reached.lab.host(name)) <= upgrade.wrong[name]

    @pytest.mark.parametrize("name", ORDER)
    def test_nothing_names_a_module_that_is_gone(self, name: str, reached: Fleet) -> None:
        assert upgrading.missing_modules(reached.lab.host(name)) == {}

    @pytest.mark.parametrize("name", ORDER)
    def test_no_old_module_is_left(self, name: str, reached: Fleet) -> None:
        assert upgrading.our_modules(reached.lab.host(name)) == upgrading.checkout_modules()

    @pytest.mark.parametrize("name", ORDER)
    def test_services_run_the_new_code(self, upgrade: Upgrade, name: str, reached: Fleet) -> None:
        before, now = upgrade.services[name].split(), services(reached.lab.host(name)).split()
        assert len(before) == len(now) == 2
        assert [pid for pid in now if pid in before] == ["0"]

    @pytest.mark.parametrize("name", ORDER)
    def test_another_run_changes_nothing(self, name: str, reached: Fleet) -> None:
        host = reached.lab.host(name)
        assert "nothing to change" in host.run([upgrading.script(host)], timeout=120).stdout

    def test_what_ran_is_known_to_have_run(self, reached: Fleet) -> None:
        assert running(reached.gpu17, "lqchen")
        assert reached.gpu17.sh("ls /var/lib/lxc-gpu/running").stdout == "lqchen\n"


class TestRelease:
    """From this release to one in which a module has another name."""

    RENAMED = f"""
        cd {SOURCE_INSIDE}
        module=$(sed -n 's/^from \\(.*\\) import main$/\\1/p' setup/executables/login-shell)
        mv $(echo $module | tr . /).py shells/renamed.py
        sed -i "s/$module/shells.renamed/" setup/executables/login-shell
        """

    def test_modules_can_be_renamed(self, upgrade: Upgrade) -> None:
        upgrade.reach("gpu18")
        fleet, host = upgrade.fleet, upgrade.fleet.gpu17
        before = host.sh("readlink /opt/lxc-gpu/release").stdout
        host.sh(self.RENAMED)
        interrupted = 0
        while upgrading.killed_on_the_way(host, steps=2):
            interrupted += 1
            assert fleet.types("ssh gpu17-manage status").ok
            assert interrupted < MOST, "it comes no further"
        assert interrupted > 0
        assert host.sh("readlink /opt/lxc-gpu/release").stdout != before
        assert fleet.types("ssh gpu17-manage status").ok
        assert upgrading.missing_modules(host) == {}
        kept = host.sh("ls -d /opt/lxc-gpu/releases/*").stdout
        assert before in kept, "what runs may need it"
        assert len(kept.splitlines()) == 2
