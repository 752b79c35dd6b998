"""Checks whether other accounts have uids or subordinate ids of the fleet."""

from __future__ import annotations

import pwd
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from reconciler.doctor.server import CheckedServer, our_accounts, text_of
from reconciler.host import nss
from reconciler.kinds.accounts.subids import SUBGID, SUBUID, parse
from state.view import View
from state.wire.findings import Area, Finding

area = Area("accounts")
subids_area = Area("subids")
MOST_SAID = 5
MAPPED_FIRST, SLICE = 200_000, 200_000
"""Where the uids begin that SSSD gives to a directory's people, and how many each domain has
(sssd-ldap(5): ldap_idmap_range_min, ldap_idmap_range_size). FreeIPA's ranges are the same."""
MAPPED_LAST = 2_000_199_999
NUMBERS = (
    'docs/sysadmins/accounts.md, "Numbers of a directory\'s people", says what follows from that.'
)


@dataclass(frozen=True)
class IdRange:
    """A range of ids, and the account that has it."""

    first: int
    count: int
    owner: str

    @property
    def last(self) -> int:
        """The last of them."""
        return self.first + self.count - 1

    def meets(self, other: IdRange) -> bool:
        """Whether both ranges have an id in common."""
        return self.first <= other.last and other.first <= self.last


def uids(server: CheckedServer) -> Iterator[Finding]:
    """Whether another account has a resident's uid, or a uid in a container's range."""
    if server.view is None:
        return
    ours = our_accounts()
    others = {a.pw_uid: a.pw_name for a in pwd.getpwall() if a.pw_name not in ours}
    others |= elsewhere(server.view)
    found = False
    for name, resident in server.view.residents.items():
        owner = others.get(resident.uid)
        if owner not in (None, server.view.account_of(name)):
            found = True
            yield area.wrong(
                f"{owner} has the uid {resident.uid}, which is {name}'s in the state.",
                f"usermod --uid ANOTHER {owner}, or move `uids:` in fleet.yaml.",
            )
    spans = fleet_spans(server)
    for uid, owner in sorted(others.items()):
        for span in spans:
            if span.first <= uid <= span.last:
                found = True
                yield area.wrong(
                    f"{owner} has the uid {uid}, which is in the range of {span.owner}'s container:"
                    " each can touch the other's files.",
                    f"Give {owner} another uid.",
                )
    if not found:
        yield area.ok("no other account has a user's uid, or one in a container's range")


def mapped(server: CheckedServer) -> Iterator[Finding]:
    """Whether containers' ids are also uids of people in a directory, who then share files."""
    if server.view is None:
        return
    if set(nss.sources("passwd")) <= nss.LOCAL:
        return
    yield from meeting(fleet_spans(server), elsewhere(server.view))


def meeting(spans: Sequence[IdRange], people: Mapping[int, str]) -> Iterator[Finding]:
    """The findings for ranges that overlap the uids of a directory's domains. Pure.

    `people`: names by uid of those who are known; they show which domains there are.
    """
    everybody = IdRange(MAPPED_FIRST, MAPPED_LAST - MAPPED_FIRST + 1, "a directory's people")
    if not any(span.meets(everybody) for span in spans):
        return
    domains: dict[int, IdRange] = {}
    for uid, name in people.items():
        if MAPPED_FIRST <= uid <= MAPPED_LAST:
            first = uid - (uid - MAPPED_FIRST) % SLICE
            domains.setdefault(first, IdRange(first, SLICE, name))
    met = [(d, span) for d in domains.values() for span in spans if span.meets(d)]
    for domain, span in met[:MOST_SAID]:
        yield subids_area.wrong(
            f"{domain.owner}'s domain has the uids {domain.first} to {domain.last}, and "
            f"{span.owner}'s container the ids {span.first} to {span.last}: on a NAS, a file of "
            "one can be the other's.",
            NUMBERS,
        )
    if not met:
        yield subids_area.note(
            "The containers' ids are where SSSD and FreeIPA give uids to people of a directory "
            f"({MAPPED_FIRST} to {MAPPED_LAST}); no account that is known here overlaps them.",
            NUMBERS,
        )


def elsewhere(view: View) -> dict[int, str]:
    """Accounts with a name or a uid of the fleet, by uid, of all sources but the local files.

    Names and uids are looked up one by one, since a directory doesn't list all its accounts
    (sssd.conf(5), `enumerate`). Each source is asked alone, since a lookup ends at the first that
    answers (nsswitch.conf(5)).
    """
    keys = [
        *{*view.registrants, *map(view.account_of, view.registrants)},
        *(str(resident.uid) for resident in view.residents.values()),
    ]
    found: dict[int, str] = {}
    for source in nss.sources("passwd"):
        if source not in nss.LOCAL:
            said = nss.entries("passwd", keys, 7, source)
            found |= {int(f[2]): f[0] for f in said if f[2].isdigit()}
    return found


def fleet_spans(server: CheckedServer) -> list[IdRange]:
    """The subordinate ranges of this server's residents, by account."""
    if server.view is None:
        return []
    view = server.view
    return [
        IdRange(resident.subid, view.subid_size, view.account_of(name))
        for name, resident in sorted(view.residents.items())
    ]


def subordinate_ids(server: CheckedServer) -> Iterator[Finding]:
    """Whether ranges in /etc/subuid and /etc/subgid overlap those of the fleet's users."""
    if server.view is None:
        return
    spans = fleet_spans(server)
    ours = our_accounts() | {span.owner for span in spans}
    found = False
    asked = nss.sources("subid")
    if asked and asked[0] != "files":  # of several, the first one counts (subuid(5))
        found = True
        yield subids_area.wrong(
            f"Subordinate ids come from {asked[0]}, not from {SUBUID}: no container starts.",
            f"`subid: files` in {nss.NSSWITCH}.",
        )
    for file in (SUBUID, SUBGID):
        for finding in overlaps(str(file), parse(text_of(file) or ""), spans, ours):
            found = True
            yield finding
    if not found:
        yield subids_area.ok("no other account's subordinate ids overlap ours")


def overlaps(
    file: str,
    ranges: Mapping[str, Sequence[tuple[int, int]]],
    spans: Sequence[IdRange],
    ours: frozenset[str] | set[str],
) -> Iterator[Finding]:
    """The findings for ranges of one file that overlap `spans`. Pure.

    An account in `ours` may have exactly its own range.
    """
    for owner, pairs in ranges.items():
        for first, count in pairs:
            for span in spans:
                own = owner == span.owner and (first, count) == (span.first, span.count)
                if own or not IdRange(first, count, owner).meets(span):
                    continue
                yield subids_area.wrong(
                    f"{file} gives {owner} {first} to {first + count - 1}, which overlaps the "
                    f"range of {span.owner}'s container: {owner} could be root in it.",
                    _move(file, owner, first, count, owner in ours),
                )


def _move(file: str, owner: str, first: int, count: int, ours: bool) -> str:
    if ours:
        return f"lxc-gpu reconcile: the state says which range {owner} has."
    kind = "uids" if file.endswith("uid") else "gids"
    return (
        f"usermod --del-sub{kind} {first}-{first + count - 1} {owner}, then give another range; "
        "SUB_UID_MAX and SUB_GID_MAX in /etc/login.defs keep new accounts below ours."
    )
