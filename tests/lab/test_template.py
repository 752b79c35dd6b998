"""A new system on its first day: what a template has, of each release of Debian that we know."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from laboratory.hosts import Host
from laboratory.images import package_lists, recipes
from laboratory.images.cache import SETUP, Image, ensure, key_of
from laboratory.layout import DOMAIN
from laboratory.progress import ProgressLines

from state.command import Finished, run
from tests.lab.fleet import Fleet, end_at_once, reconcile
from tests.patience import eventually

NAME = "first-day"
TEMPLATE = f"/var/lib/lxc-gpu/templates/{NAME}.tar.zst"
FOREIGN = "LANG=de_DE.UTF-8 LC_CTYPE=UTF-8 LC_ALL=tlh_GB.UTF-8"
"""What ssh sends from computers whose locales aren't the container's; macOS has that LC_CTYPE."""
HOOK = """#!/bin/sh
set -eu
cd "$(mktemp -d)"
mkdir -p lab/DEBIAN lab/usr/bin
printf '#!/bin/sh\\nexec hello "$@"\\n' >lab/usr/bin/lab-hello
chmod 755 lab/usr/bin/lab-hello
printf '%s\\n' 'Package: lab-hello' 'Version: 1' 'Architecture: all' 'Depends: hello' \\
    'Maintainer: lab <root@mylab.com>' 'Description: a package of the lab' >lab/DEBIAN/control
dpkg-deb --build lab "$1/tmp/lab.deb" >/dev/null
chroot "$1" apt-get -q -y install /tmp/lab.deb
"""
"""Installs a package that the archive hasn't, with what it needs from there."""


def template(release: str, hook: Path) -> Path:
    """The template that a sysadmin makes; kept with the lab's images."""
    hook.write_text(HOOK)
    hook.chmod(0o755)

    def build(made: Path) -> None:
        words: list[str | Path] = [SETUP / "template", "--release", release, "--hook", hook, made]
        run(words, env=package_lists.apt_environment(), timeout=recipes.LONG)

    key = key_of(recipes.own_sources(), SETUP / "template", HOOK)
    with ProgressLines() as progress:
        return ensure(Image(f"{NAME}-{release}", key, build, suffix=".tar.zst"), progress)


@pytest.fixture(
    scope="class",
    params=["trixie", pytest.param("bookworm", marks=pytest.mark.matrix)],
)
def gpu18(
    fleet: Fleet, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Host]:
    """A server whose template it is; ann's new container runs there."""
    host = fleet.gpu18
    host.push(template(request.param, tmp_path_factory.mktemp(NAME) / "hook"), TEMPLATE, 0o644)
    fleet.commits("gpu18: another template", f"echo 'template: {NAME}' >>servers/gpu18.yaml")
    assert reconcile(host).ok
    done = fleet.register("ann", "gpu18")
    assert done.ok, done.stderr
    done = fleet.types("ssh gpu18-manage", user="ann")
    assert done.ok, done.stderr
    yield host
    end_at_once(host, "ann")
    leave = "git rm -q registrations/gpu18/ann.yaml; sed -i /^template:/d servers/gpu18.yaml"
    fleet.commits("ann leaves gpu18", leave)
    assert reconcile(host).ok
    host.run(["lxc-gpu", "purge", "ann", "--yes"], timeout=120)
    host.run(["rm", TEMPLATE])


@pytest.mark.usefixtures("gpu18")
class TestFirstDay:
    """Somebody without `sudo` in their fingers; ann's ssh is that of any Debian."""

    def test_nothing_has_failed_and_sysctl_is_applied(self, fleet: Fleet) -> None:
        done = _inside(fleet, "systemctl is-system-running --wait; systemctl --failed --no-legend")
        assert done.stdout == "running\n", done.stdout
        assert _inside(fleet, "systemctl is-active systemd-sysctl").stdout == "active\n"
        _inside(fleet, "echo net.ipv4.tcp_fin_timeout=31 | sudo tee /etc/sysctl.d/mine.conf")
        _inside(fleet, "sudo systemctl restart systemd-sysctl")
        assert _inside(fleet, "cat /proc/sys/net/ipv4/tcp_fin_timeout").stdout == "31\n"

    @pytest.mark.parametrize("address", ["10.77.0.1", "127.0.0.1"])
    def test_ping_needs_no_sudo(self, fleet: Fleet, address: str) -> None:
        done = _inside(fleet, f"id -u; ping -c1 -W5 {address}")
        assert done.ok, done.stderr
        assert done.stdout.startswith("1000\n")

    def test_a_foreign_locale_is_nobodys_business(self, fleet: Fleet) -> None:
        tried = "perl -e 1; man -w ls; apt-get --version; bash -c true; locale"
        done = _inside(fleet, f"{{ {tried}; }} >/dev/null; env | grep -e ^LANG -e ^LC_", FOREIGN)
        assert (done.stdout, done.stderr) == ("LANG=C.UTF-8\n", "")

    @pytest.mark.parametrize("locale", ["de_DE", "en_US", "zh_CN"])
    def test_start_up_files_may_name_a_locale(self, fleet: Fleet, locale: str) -> None:
        done = _inside(fleet, f"export LC_ALL={locale}.UTF-8; perl -e 1; locale charmap")
        assert (done.stdout, done.stderr) == ("UTF-8\n", "")

    def test_has_what_people_ask_for(self, fleet: Fleet) -> None:
        for program in ("rsync", "git", "nano", "tmux", "wget"):
            assert _inside(fleet, f"{program} --version || {program} -V").ok, program
        assert "list directory contents" in _inside(fleet, "man ls").stdout
        done = _inside(fleet, "python3 -m venv mine && mine/bin/pip --version")
        assert done.ok, done.stderr
        done = _inside(fleet, "echo '0 4 * * * true' | crontab - && crontab -l; pgrep -x cron")
        assert done.ok, done.stderr

    def test_x11_is_forwarded(self, fleet: Fleet) -> None:
        done = fleet.types("DISPLAY=:7 ssh -X gpu18 'echo $DISPLAY; xauth list'", user="ann")
        assert done.stdout.startswith("localhost:10.0\n"), done.stderr
        assert "MIT-MAGIC-COOKIE-1" in done.stdout

    def test_hook_installed_a_package(self, fleet: Fleet) -> None:
        assert _inside(fleet, "lab-hello").stdout == "Hello, world!\n"


def _inside(fleet: Fleet, command: str, environment: str = "") -> Finished:
    """As ann, in her container."""
    return fleet.types(f"{environment} ssh gpu18 {shlex.quote(command)}", user="ann")


OTHER = "cuda-12"
OFFERED = f"""cat >>servers/gpu18.yaml <<'END'
templates:
  {OTHER}: CUDA 12 and PyTorch
END"""
ARCHIVES = "/var/lib/lxc-gpu/templates"


def _is_typed(fleet: Fleet, line: str) -> bool:
    return fleet.types(line).ok


@pytest.fixture(scope="class")
def offers(fleet: Fleet) -> Iterator[Host]:
    """gpu18, which offers another template; its archive is not there yet."""
    revision = fleet.commits("gpu18: a choice of templates", OFFERED)
    done = reconcile(fleet.gpu18)
    assert f"FAILED container template {OTHER}: The template {OTHER} is not on this" in done.stdout
    assert done.status == 1
    yield fleet.gpu18
    before = f"git show {revision}^:servers/gpu18.yaml >servers/gpu18.yaml"
    leave = "git rm -q --ignore-unmatch registrations/gpu18/lqchen.yaml"
    fleet.commits("gpu18: no choice", f"{before}; {leave}")
    assert reconcile(fleet.gpu18).ok
    fleet.gpu18.run(["lxc-gpu", "purge", "lqchen", "--yes"], timeout=120)
    fleet.gpu18.sh(f"rm {ARCHIVES}/{OTHER}.tar.zst")


class TestChoice:
    """People take one of the templates that a server names for them."""

    def test_names_that_are_none_are_refused_and_the_right_ones_listed(
        self, fleet: Fleet, offers: Host
    ) -> None:
        done = fleet.types("ssh register@gpu18-manage lqchen --template ../../etc")
        assert not done.ok
        assert "can't be: a template's name has lower-case letters" in done.stderr
        done = fleet.types("ssh register@gpu18-manage lqchen --template cuda-13")
        assert not done.ok
        assert "gpu18 has no template cuda-13 for you. It has:" in done.stderr
        assert f"- {OTHER}: CUDA 12 and PyTorch" in done.stderr
        assert "lqchen" not in offers.sh("ls /var/lib/lxc-gpu/containers").stdout.split()

    def test_one_without_an_archive_is_told_once_with_the_cure(self, offers: Host) -> None:
        said = offers.run(["lxc-gpu", "doctor"], check=False).stdout
        (line,) = (line for line in said.splitlines() if f"The template {OTHER} is not" in line)
        assert line.startswith("WRONG template ")
        assert f"`setup/template --release RELEASE {ARCHIVES}/{OTHER}.tar.zst`" in said
        assert "debian-12.tar.zst: " in said

    def test_the_page_lists_them(self, fleet: Fleet, offers: Host) -> None:
        for page in ("/user/lqchen", "/server/gpu18"):
            asked = f"curl -fsS http://iam.{DOMAIN}{page} | grep 'CUDA 12 and PyTorch'"
            eventually(partial(_is_typed, fleet, asked))

    def test_a_registration_gets_the_one_that_was_chosen(self, fleet: Fleet, offers: Host) -> None:
        done = fleet.types(f"ssh register@gpu18-manage lqchen --template {OTHER}", wait=180)
        assert f"The template {OTHER} is not on this server" in done.stderr
        assert "Here are: debian-12. Type, for example, `--template debian-12`." in done.stderr
        offers.sh(f"cp {ARCHIVES}/debian-12.tar.zst {ARCHIVES}/{OTHER}.tar.zst")
        done = fleet.types(f"ssh register@gpu18-manage lqchen --template {OTHER}", wait=180)
        assert done.ok, done.stderr
        done = fleet.types(f"ssh register@gpu18-manage lqchen --template {OTHER}")
        assert "is there already; what it began as stays." in done.stderr

    def test_rebuild_takes_the_one_that_was_chosen_last(self, fleet: Fleet, offers: Host) -> None:
        fleet.fetch_ssh_files("lqchen")
        asked = fleet.types("ssh gpu18-manage rebuild").stderr
        assert f"begins anew, from the template {OTHER}." in asked
        asked = fleet.types("ssh gpu18-manage rebuild --template debian-12").stderr
        assert "begins anew, from the template debian-12." in asked
        asked = fleet.types(f"ssh gpu18-manage rebuild --undo --template {OTHER}").stderr
        assert "`--undo` and `--template` can't be combined." in asked

    def test_who_chose_one_that_is_gone_reads_which_are_here(
        self, fleet: Fleet, offers: Host
    ) -> None:
        offers.sh(f"mv {ARCHIVES}/{OTHER}.tar.zst {ARCHIVES}/{OTHER}.away")
        try:
            asked = fleet.types("ssh gpu18-manage rebuild").stderr
            assert f"The template {OTHER} is not on this server" in asked
            assert "Here are: debian-12. Type, for example, `--template debian-12`." in asked
            asked = fleet.types("ssh gpu18-manage rebuild --template debian-12").stderr
            assert "begins anew, from the template debian-12." in asked
        finally:
            offers.sh(f"mv {ARCHIVES}/{OTHER}.away {ARCHIVES}/{OTHER}.tar.zst")
