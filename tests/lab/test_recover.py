"""recover and rebuild, one after the other, as somebody would do it: one can always go back."""

from __future__ import annotations

import json
import shlex

import pytest
from laboratory.hosts import Host

from tests.lab.fleet import SYSTEM, Fleet, empty, in_container, plan, running
from tests.lab.recovering import (
    FOLDER,
    UNCONFIRMED,
    agreed,
    inside,
    manage,
    token,
    trees,
)
from tests.patience import eventually


def status(fleet: Fleet) -> dict[str, object]:
    """What `status --json` says."""
    facts: dict[str, object] = json.loads(manage(fleet, "status --json").stdout)
    return facts


def test_back_to_a_snapshot_and_forth(fleet: Fleet, nothing_kept: Host) -> None:
    assert manage(fleet, "start").ok
    names = "cat /etc/machine-id; hostname"
    before = inside(fleet, f"echo one >thesis; sudo touch /etc/mine; {names}")
    assert manage(fleet, "snapshot first").ok
    inside(fleet, "echo two >thesis; sudo rm /etc/mine")

    asked = manage(fleet, "recover first")
    assert asked.status == UNCONFIRMED
    assert "It is running: programs in it end when it is restarted." in asked.stderr
    assert manage(fleet, "recover first --confirm 00000000").status == UNCONFIRMED
    assert inside(fleet, "cat thesis") == "two\n", "nothing was done without a yes"

    done = manage(fleet, f"recover first --confirm {token(asked)}")
    assert done.ok, done.stderr
    assert "- unpacking the snapshot first" in done.stderr
    assert inside(fleet, f"cat thesis; ls /etc/mine; {names}") == f"one\n/etc/mine\n{before}"
    assert plan(nothing_kept) == [], "a round has nothing to mend"
    assert "recover from the snapshot first: done" in manage(fleet, "status").stdout
    assert status(fleet)["previous_since"]

    assert manage(fleet, f"recover first --confirm {token(asked)}").status == UNCONFIRMED
    assert agreed(fleet, "recover --undo").ok
    assert inside(fleet, "cat thesis") == "two\n"
    assert agreed(fleet, "recover --undo").ok
    assert inside(fleet, "cat thesis") == "one\n"


def test_files_come_back_beside_what_is_there(fleet: Fleet, nothing_kept: Host) -> None:
    inside(fleet, "echo now >thesis; sudo rm -f /etc/mine")
    done = manage(fleet, "recover first thesis /etc/mine")
    assert done.ok, done.stderr
    assert "  /recovered/first/home/lqchen/thesis\n" in done.stdout
    came = "find /recovered ! -type d -printf '%p %u\\n' | sort; cat thesis"
    assert inside(fleet, came) == (
        "/recovered/first/etc/mine root\n/recovered/first/home/lqchen/thesis lqchen\nnow\n"
    )
    modes = "stat -c '%n %U %a' /recovered /recovered/* /recovered/first/home/lqchen"
    assert inside(fleet, modes).split("\n")[:2] == [
        "/recovered root 755", "/recovered/first lqchen 700",
    ]  # fmt: skip

    done = manage(fleet, "recover first ~/thesis ./nothing/there /tmp/x")
    assert done.status == 1
    assert (
        "no /home/lqchen/nothing/there (there is /home/lqchen), no /tmp/x (there is /tmp); "
        "the others are in /recovered/first-2."
    ) in done.stderr
    assert inside(fleet, "cat /recovered/first-2/home/lqchen/thesis") == "one\n"
    for words in ("first nothing", "first ../ann", "first /", "first x --undo", "none x"):
        done = manage(fleet, f"recover {words}")
        assert (done.status, "Traceback" in done.stderr) == (1, False), done.stderr
    assert "recover files from the snapshot first: " in manage(fleet, "status").stdout
    assert inside(fleet, "ls -A /recovered") == "first\nfirst-2\n"
    inside(fleet, "cp /recovered/first/home/lqchen/thesis thesis; sudo touch /etc/mine")
    inside(fleet, "sudo rm -r /recovered")


def test_what_fails_after_the_exchange_says_that_it_was_done(
    fleet: Fleet, nothing_kept: Host
) -> None:
    config = "/run/lxc-gpu/lqchen.config"
    nothing_kept.sh(f"rm {config}; mkdir {config}")
    try:
        done = agreed(fleet, "recover --undo")
    finally:
        nothing_kept.sh(f"rmdir {config}")
    assert "✗ The systems were exchanged, but the one in place" in done.stderr, done.stderr
    assert "Is a directory" in done.stderr
    assert agreed(fleet, "recover --undo").ok
    assert manage(fleet, "start").ok
    assert inside(fleet, "cat thesis") == "one\n"


def test_rebuild_with_home_takes_all_of_it_along(fleet: Fleet, nothing_kept: Host) -> None:
    inside(fleet, """
        rm .profile; ln thesis same; mkfifo pipe; mkdir -m 700 deep; echo >deep/file
        sudo chown 4242:4343 deep/file; truncate -s 5G hole
        sudo cp -a /usr/bin/ping ping; sudo setfattr -n user.x -v y thesis 2>&- || true
        sudo setcap cap_net_raw=ep ping 2>&- || true""")  # fmt: skip
    facts = "cd /home/lqchen; find . ! -path './.ssh*' -printf '%p %U %G %m %n %y %s\\n' | sort"
    before = inside(fleet, f"sudo bash -c {shlex.quote(facts)}")
    capable = nothing_kept.sh(f"getcap {SYSTEM}/home/lqchen/ping").stdout.split()[1:]
    done = agreed(fleet, "rebuild --keep-home")
    assert done.ok, done.stderr
    assert inside(fleet, f"sudo bash -c {shlex.quote(facts)}") == before
    copied = nothing_kept.sh(f"getcap {SYSTEM}/home/lqchen/ping").stdout.split()[1:]
    assert copied == capable
    assert inside(fleet, "ls /etc/mine 2>&- || echo gone") == "gone\n"
    used = inside(fleet, "du --block-size=1M hole | cut -f1")
    assert int(used) <= 1, "the hole was filled"

    inside(fleet, "echo three >thesis")
    assert agreed(fleet, "rebuild --undo").ok
    assert inside(fleet, "cat thesis; ls /etc/mine") == "one\n/etc/mine\n"


def test_a_stopped_container_stays_stopped(fleet: Fleet, nothing_kept: Host) -> None:
    assert manage(fleet, "stop").ok
    done = agreed(fleet, "rebuild")
    assert done.ok, done.stderr
    assert done.stdout.endswith("Start it:  ssh gpu17-manage\n")
    assert not running(nothing_kept, "lqchen")
    assert plan(nothing_kept) == []
    assert "thesis" not in in_container(nothing_kept, "lqchen", "ls home/lqchen").stdout
    nothing_kept.sh(f"mount -t tmpfs busy {FOLDER}/rootfs.before/system/mnt")  # rm leaves it alone
    done = agreed(fleet, "rebuild")
    nothing_kept.sh(f"umount {FOLDER}/.trash-*/system/mnt")
    assert done.ok, done.stderr
    assert "The system kept until now could not be removed yet" in done.stdout
    assert agreed(fleet, "recover --forget").ok
    assert manage(fleet, "recover --undo").stderr.startswith("✗ No previous system")


def test_ctrl_c_stops_nothing(fleet: Fleet, nothing_kept: Host) -> None:
    asked = token(manage(fleet, "recover first"))
    keys = "(sleep 1; printf '\\003'; sleep 1)"
    done = fleet.types(f"{keys} | ssh -tt gpu17-manage recover first --confirm {asked}")
    if "Interrupted" not in done.stdout + done.stderr:
        pytest.skip("it was done before ctrl-C came")
    eventually(lambda: "first: done" in manage(fleet, "status").stdout, 60)
    assert in_container(nothing_kept, "lqchen", "cat home/lqchen/thesis").stdout == "one\n"


def test_a_damaged_snapshot_changes_nothing(fleet: Fleet, nothing_kept: Host) -> None:
    place = "/var/lib/lxc-gpu/snapshots/lqchen/first"
    nothing_kept.sh(f"cp -a {place}.json /root/first.json; sed -i 's/\"sha256\": \"..../&0000/;"
             f"s/\\(\"sha256\": \"....\\)0000..../\\10000/' {place}.json")  # fmt: skip
    before = trees(nothing_kept)
    done = agreed(fleet, "recover first")
    nothing_kept.sh(f"cp -a /root/first.json {place}.json")
    assert done.status == 1
    assert "✗ The snapshot first is damaged" in done.stderr
    assert trees(nothing_kept) == before


def test_a_container_moves_to_another_server(fleet: Fleet, nothing_kept: Host) -> None:
    assert fleet.register("lqchen", "gpu18").ok
    inside_17 = in_container(nothing_kept, "lqchen", "cat home/lqchen/thesis etc/machine-id").stdout
    line = "ssh gpu17-manage snapshot --to-stdout | ssh gpu18-manage recover --from-stdin"
    done = fleet.types(line, wait=120)
    assert done.ok, done.stderr
    assert "- unpacking the archive: " in done.stderr
    assert fleet.types("ssh gpu18-manage").ok
    seen = fleet.types("ssh gpu18 'cat thesis /etc/machine-id; hostname; getent hosts $HOSTNAME'")
    assert seen.ok, seen.stderr
    thesis, ident, name, address = seen.stdout.splitlines()
    assert (thesis, name) == ("one", "lqchen-gpu18")
    assert address.split()[1] == "lqchen-gpu18"
    assert inside_17.splitlines() != [thesis, ident], "two machines with one id"
    assert plan(fleet.gpu18) == []
    empty(fleet, "gpu18")
