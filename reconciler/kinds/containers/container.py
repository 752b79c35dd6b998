"""The containers of the registered users, with our files in the user's home.

Making one is slow, so changes in existing ones (above all a revoked key) come first. When somebody
is no longer registered, the container is stopped and our keys are removed; its file system stays.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from reconciler.container import home_files
from reconciler.host import marker, places
from reconciler.host.places import container_unit, rootfs
from reconciler.kinds.accounts import subids
from reconciler.mounts import sources as mounts
from reconciler.mounts.tree import Tree
from reconciler.plan import Change, Lock, Observed, Tell
from reconciler.systems import template_choice
from state import command
from state.errors import LxcGpuError, os_error
from state.view import View


class Container(NamedTuple):
    """What lxc-gpu looks after in a container: its ids, and our files in ~/.ssh."""

    subid: int
    files: Mapping[str, str]
    mounted: Mapping[str, str] | None = None
    """Our files in the mount that covers ~/.ssh; None if no mount does."""
    noted: bool = True
    """Whether there is a note, outside of it, that it was made here."""


class ContainerKind:
    """Containers of registered users."""

    name = "container"
    lock = Lock.USER
    per_user = True

    def desired(self, view: View) -> Mapping[str, Container]:
        """One container for each resident."""
        wanted: dict[str, Container] = {}
        for name, resident in view.residents.items():
            ours = home_files.desired_files(view, name, resident)
            covered = home_files.mounted_home(view, name) is not None
            wanted[name] = Container(resident.subid, ours, ours if covered else None)
        return wanted

    def observe(self, view: View, names: Collection[str]) -> Observed[Container]:
        """The residents' containers, and others that run or still have keys of ours.

        A container that was made and is gone is not made again. Where the whole folder is missing,
        nothing is known of residents' containers and nothing is done: `containers_folder` reports
        that. Missing templates are reported before somebody asks for one in vain.
        """
        try:
            there = marker.look(view)
            there.settled(view)
        except LxcGpuError:
            left = _running() - view.residents.keys()
            return Observed({**self.desired(view), **{name: Container(0, {}) for name in left}})
        found: dict[str, Container] = {}
        unreadable = {n: marker.gone(view, n) for n in there.gone & view.residents.keys()}
        unreadable |= _without_template(view, view.residents.keys() - there.systems - there.gone)
        up = _running() if there.systems - view.residents.keys() else frozenset()
        usable = _usable_homes(view)
        for name in sorted(there.systems):
            resident, subid = name in view.residents, 0
            try:
                tree = _as_stored(view, name)
                subid = tree.first
                container = Container(
                    subid,
                    home_files.read(tree, name),
                    _mounted(view, name, usable) if resident else None,
                    noted=name in there.made or not resident,
                )
            except (LxcGpuError, OSError) as error:
                if resident:
                    unreadable[name] = os_error(error) if isinstance(error, OSError) else error
                    continue
                container = Container(subid, {})  # unreadable ones are stopped, too
            if resident or name in up or container.files.get("authorized_keys"):
                found[name] = container
        return Observed(found, unreadable)

    def apply(
        self, view: View, changes: Sequence[Change[Container]], tell: Tell
    ) -> Mapping[str, LxcGpuError]:
        """Make containers, put our files in place, or stop them and remove our keys."""
        failed: dict[str, LxcGpuError] = {}
        for change in changes:
            try:
                self._apply(view, change, tell)
            except LxcGpuError as error:
                failed[change.name] = error
            except OSError as error:
                failed[change.name] = os_error(error)
        return failed

    def _apply(self, view: View, change: Change[Container], tell: Tell) -> None:
        if change.after is None:
            assert change.before is not None  # noqa: S101
            (places.RUNNING / change.name).unlink(missing_ok=True)
            command.run(["systemctl", "stop", container_unit(change.name)])
            if change.before.files.get("authorized_keys"):
                no_keys = {"authorized_keys": ""}
                slot, first = rootfs(view, change.name), change.before.subid
                home_files.write(Tree(slot, first, view.subid_size), change.name, no_keys)
            return
        resident = view.residents[change.name]
        if change.before is None:
            # much that a round with nothing to do doesn't need
            from reconciler.systems.from_template import link_from_home, make_container

            make_container(view, change.name, resident, tell)
            marker.note(change.name)
            link_from_home(view, change.name, resident.uid)
        elif change.before.subid != change.after.subid:
            raise LxcGpuError(
                "subid-changed",
                f"The container of {change.name} has ids from {change.before.subid} on, the state "
                f"says {change.after.subid}.",
                f"Subordinate ids don't change: restore `subid` in users/{change.name}.yaml "
                f"(compare {subids.SUBUID}).",
            )
        elif not change.before.noted:
            marker.note(change.name)
        tree = Tree.of(view, change.name, resident)
        home_files.write(tree, change.name, dict(change.after.files))
        home = home_files.mounted_home(view, change.name)
        if home is not None and mounts.usable([home[0]]):
            ours = dict(change.after.files)
            home_files.write_mounted(view, change.name, resident, ours)

    def describe(self, change: Change[Container]) -> str:
        """E.g. `make the container of lqchen`."""
        if change.after is None:
            return f"stop the container of {change.name} and take the keys out of it"
        if change.before is None:
            return f"make the container of {change.name}"
        before, after = change.before.files, change.after.files
        names = ", ".join(n for n in after if before.get(n) != after[n])
        if not names and not change.before.noted:
            names = "the note that it was made"
        if not names:
            names = "its ids" if change.before.subid != change.after.subid else "the mounted home"
        return f"update the container of {change.name}: {names}"


def _as_stored(view: View, name: str) -> Tree:
    """The system in place, with the ids that the disk says it has.

    A raw system that never ran fits any ids, so it has the account's. OSError or LxcGpuError if
    they can't be read.
    """
    tree, resident = Tree(rootfs(view, name), 0, view.subid_size), view.residents.get(name)
    first = tree.stored_for if resident is None else tree.stored_for or resident.subid
    return replace(tree, first=first or subids.range_of(view.account_of(name))[0])


def _without_template(view: View, new: Collection[str]) -> dict[str, LxcGpuError]:
    """Templates that are offered and aren't here, and users whose systems are to be made of one."""
    absent = template_choice.missing(view)
    found = {f"template {name}": error for name, error in absent.items()}  # no user has a blank
    for name in new:
        try:
            template_choice.archive_of(view, template_choice.chosen(view, name))
        except LxcGpuError as error:  # worded for them: which ones are here
            found[name] = error
    return found


def _usable_homes(view: View) -> frozenset[str]:
    """The sources that cover somebody's home and can be read."""
    homes = (home_files.mounted_home(view, name) for name in view.residents)
    return mounts.usable({home[0] for home in homes if home is not None})


def _mounted(view: View, name: str, usable: Collection[str]) -> Mapping[str, str] | None:
    """Our files in the mount that covers the home.

    Nothing is known, and nothing is done, while the source is away: the kind `mount` reports it.
    """
    home, resident = home_files.mounted_home(view, name), view.residents[name]
    if home is None:
        return None
    if home[0] not in usable:
        return home_files.desired_files(view, name, resident)
    return home_files.read_mounted(view, name, resident)


def _running() -> frozenset[str]:
    """The users whose containers' units are active."""
    states = "--state=active,activating,deactivating,reloading"
    argv = ["systemctl", "list-units", "--plain", "--no-legend", states, container_unit("*")]
    units = (line.split()[0] for line in command.run(argv).stdout.splitlines() if line.strip())
    before, after = container_unit("*").split("*")
    return frozenset(unit.removeprefix(before).removesuffix(after) for unit in units)
