"""Homes that people had on this server before, mounted for their containers with owners mapped.

Nothing on the disk is made or changed, and nobody gets a new home. A home that isn't in order is
left alone and reported; the container starts without it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from reconciler.mounts import old_homes, old_owners, sources
from reconciler.mounts.locked_mount import unmount
from reconciler.mounts.old_homes import OldHomeResult
from reconciler.plan import Change, Lock, Observed, Tell
from state.errors import LxcGpuError, Remedy, os_error
from state.view import View

Sources = tuple[str, ...]
"""The sources where all is done for a user, sorted."""


class OldHomeKind:
    """Old homes, by user."""

    name = "old_home"
    lock = Lock.USER
    per_user = True

    def desired(self, view: View) -> Mapping[str, Sources]:
        """The sources of each resident's mounts with the access `home`."""
        wanted = {n: old_homes.homes_of(view, n) for n in view.residents}
        return {n: tuple(sorted({m.source for m in of})) for n, of in wanted.items() if of}

    def observe(self, view: View, names: Collection[str]) -> Observed[Sources]:
        """The sources where the home is mounted in order, or where there is none."""
        wanted, mounted = self.desired(view), sources.old_homes_mounted()
        asked = wanted.keys() & frozenset(names)
        unwanted = {u: mounted[u].keys() - frozenset(wanted.get(u, ())) for u in mounted}
        left = {user: tuple(sorted(of)) for user, of in unwanted.items() if of}
        if not asked:
            return Observed(left)
        try:
            found = old_homes.look(view, asked)
        except LxcGpuError as error:
            return Observed(left, dict.fromkeys(asked, error))
        settled = {
            user: [s for s in wanted[user] if _is_settled(user, s, found[user].get(s), mounted)]
            for user in asked
        }
        return Observed(
            left | {u: tuple(sorted({*of, *left.get(u, ())})) for u, of in settled.items()}
        )

    def apply(
        self, view: View, changes: Sequence[Change[Sources]], tell: Tell
    ) -> Mapping[str, LxcGpuError]:
        """Mount homes, unmount those nobody wants; running containers keep what they see."""
        failed: dict[str, LxcGpuError] = {}
        for change in changes:
            try:
                for source in sources.old_homes_mounted().get(change.name, {}):
                    if source not in (change.after or ()):
                        _take_away(change.name, source)
                for source in change.after or ():
                    if source not in (change.before or ()):
                        self.make_one(view, change.name, source)
            except LxcGpuError as error:
                failed[change.name] = error
            except OSError as error:
                failed[change.name] = os_error(error)
        return failed

    def make_one(self, view: View, user: str, source: str) -> bool:
        """Mount one home, if it isn't mounted yet; False if the user has none there.

        LxcGpuError if it can't be had; then none is mounted. The caller holds the user's lock.
        """
        found = old_homes.look(view.only(user), [user])[user].get(source)
        if found is None:
            raise LxcGpuError(
                "mount-silent",
                f"{source} could not be read just now.",
                f"Sysadmin: `ls {source}` has to work, within {sources.PATIENCE} s.",
                Remedy.WAIT,
            )
        try:
            if source in sources.old_homes_mounted().get(user, {}):
                _take_away(user, source)
            if found.problem is not None:
                raise found.problem
            if found.home is None:
                return False
            inside = view.residents[user].subid + old_homes.LOGIN_USER
            old_owners.note(user, found.home.owner.uid)
            old_homes.mount(source, found.home, inside, sources.old_home_place(source, user))
        except OSError as error:
            raise os_error(error) from error
        return True

    def describe(self, change: Change[Sources]) -> str:
        """E.g. `let lqchen's container see the home that they have had in /home`."""
        before, after = change.before or (), change.after or ()
        if new := [source for source in after if source not in before]:
            return f"let {change.name}'s container see their old home in {', '.join(new)}"
        gone = [source for source in before if source not in after]
        return f"let {change.name}'s container see no old home in {', '.join(gone)} any more"


def _is_settled(
    user: str, source: str, found: OldHomeResult | None, mounted: Mapping[str, Mapping[str, object]]
) -> bool:
    if found is None:  # the source isn't as it has to be: the kind `mount` says so
        return True
    if found.problem is not None:
        return False
    return found.right if found.home is not None else source not in mounted.get(user, {})


def _take_away(user: str, source: str) -> None:
    place = sources.old_home_place(source, user)
    unmount(place)
    place.rmdir()
