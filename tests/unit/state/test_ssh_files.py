"""What users put into ~/.ssh, as OpenSSH itself understands it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from state.ssh_files import known_hosts, ssh_config
from state.view import Neighbour

SERVER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICksGFWxceR+jU7ob6NmGGtrsHQ4yyZdCVrHd79h9vUW"
CONTAINER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
FLEET = {
    "gpu18": Neighbour("172.16.2.18", 2222, SERVER),
    "gpu17": Neighbour("172.16.2.17", 22, SERVER),
}


def asked(config: Path, destination: str) -> dict[str, str]:
    """What ssh would do for `destination`."""
    shown = subprocess.run(
        ["ssh", "-G", "-F", config, destination], capture_output=True, text=True, check=True
    )
    return dict(line.split(" ", 1) for line in shown.stdout.splitlines() if " " in line)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "config"
    file.write_text(ssh_config("lqchen", "lqchen", 22031, FLEET))
    return file


def test_nobody_types_the_accounts_prefix(tmp_path: Path) -> None:
    for connect in (False, True):
        file = tmp_path / "config"
        file.write_text(ssh_config("lqchen", "gpu-lqchen", 22031, FLEET, connect=connect))
        assert asked(file, "gpu17-manage")["user"] == "gpu-lqchen"
        assert asked(file, "gpu17")["user"] == "lqchen"
        assert asked(file, "register@gpu17-manage")["user"] == "register"


@pytest.mark.parametrize(
    ("destination", "user", "address", "port", "alias"),
    [
        ("gpu17", "lqchen", "172.16.2.17", "22031", "gpu17"),
        ("gpu17-manage", "lqchen", "172.16.2.17", "22", "gpu17-manage"),
        ("register@gpu17-manage", "register", "172.16.2.17", "22", "gpu17-manage"),
        ("gpu18-manage", "lqchen", "172.16.2.18", "2222", "gpu18-manage"),
        ("gpu18", "lqchen", "172.16.2.18", "22031", "gpu18"),
    ],
)
def test_openssh_reads_the_configuration_as_meant(
    config: Path, destination: str, user: str, address: str, port: str, alias: str
) -> None:
    found = asked(config, destination)
    assert (found["user"], found["hostname"], found["port"]) == (user, address, port)
    assert found["hostkeyalias"] == alias
    assert found["stricthostkeychecking"] == "true"
    assert found["userknownhostsfile"].split()[0].endswith(".ssh/lxc-gpu.known_hosts")


@pytest.mark.parametrize("server", ["gpu17", "gpu18"])
def test_through_the_server_only_the_way_differs(config: Path, tmp_path: Path, server: str) -> None:
    file = tmp_path / "config-connect"
    file.write_text(ssh_config("lqchen", "lqchen", 22031, FLEET, connect=True))
    found = asked(file, server)
    assert found.pop("proxycommand") == f"ssh -T {server}-manage connect"
    assert found == asked(config, server), "the same host key is expected, just as strictly"
    assert asked(file, f"{server}-manage") == asked(config, f"{server}-manage")
    assert asked(file, f"register@{server}-manage").get("proxycommand") is None


def test_it_can_be_included_and_leaves_other_hosts_alone(config: Path, tmp_path: Path) -> None:
    outer = tmp_path / "outer"
    outer.write_text(f"Include {config}\nHost other\n    User me\n")
    assert asked(outer, "gpu17")["user"] == "lqchen"
    assert asked(outer, "other")["user"] == "me"
    assert asked(outer, "elsewhere.example.org")["hostname"] == "elsewhere.example.org"


def test_the_lines_for_who_has_many_keys_are_right_as_they_stand(
    config: Path, tmp_path: Path
) -> None:
    remarks = [line[1:] for line in config.read_text().splitlines() if line.startswith("#     ")]
    own = tmp_path / "own"
    own.write_text("\n".join([f"Include {config}", "Host other", "    User me", *remarks[1:]]))
    for host in ("gpu17", "gpu17-manage", "register@gpu18-manage"):
        found = asked(own, host)
        assert found["identitiesonly"] == "yes"
        assert found["identityfile"] == "~/.ssh/id_ed25519"
    assert asked(own, "other")["identitiesonly"] == "no"
    assert asked(config, "gpu17")["identitiesonly"] == "no", "nothing changes by itself"


@pytest.mark.parametrize(
    ("known_as", "key"),
    [
        ("gpu17-manage", SERVER),
        ("172.16.2.17", SERVER),
        ("[172.16.2.18]:2222", SERVER),
        ("gpu17", CONTAINER),
        ("[172.16.2.17]:22031", CONTAINER),
        ("gpu18", None),
    ],
)
def test_servers_and_containers_have_keys_of_their_own(
    tmp_path: Path, known_as: str, key: str | None
) -> None:
    file = tmp_path / "known_hosts"
    keys = {"gpu17": f"{SERVER} root@gpu17", "gpu18": SERVER}
    file.write_text(known_hosts(22031, FLEET, keys, {"gpu17": CONTAINER}))
    shown = subprocess.run(
        ["ssh-keygen", "-F", known_as, "-f", file], capture_output=True, text=True, check=False
    )
    found = [line for line in shown.stdout.splitlines() if not line.startswith("#")]
    assert [line.split(" ", 1)[1] for line in found] == ([] if key is None else [key])


def test_no_servers_make_no_lines() -> None:
    assert known_hosts(22031, {}, {}, {}) == ""
    assert "Host " not in ssh_config("lqchen", "lqchen", 22031, {}).replace("`Host`", "")
