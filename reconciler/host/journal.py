"""Events for sysadmins, one a line, with stable codes: `journalctl -t lxc-gpu`.

| code | what happened |
| --- | --- |
| asked | somebody asked the root helper for something |
| refused | it was not done; `code=` says why |
| asker-gone | what was asked for was ended, because whoever asked had gone |
| not-charged | a request was not counted with its user's sessions; `why=` says why |
| registered, started, stopped | what a user's request came to |
| unconfined | a container starts without AppArmor's profile, on a server that has AppArmor |
| shared-memory | /dev/shm of a container that runs doesn't follow its new limit; `why=` says why |
| undertaken | a snapshot was taken, a container's system replaced; `what=` says which |
| not-removed | what is left of a system or a snapshot can't be removed now; `why=` |
| changed | a round changed something that the state wants |
| drift | a round put back what was changed by hand |
| failed | a round could not put something right |
| round-refused | a newer revision was not taken |
| driver | something about NVIDIA's driver is not as it should be; `code=` says what |
| suspended, resumed | a sysadmin has the server hold still, or no longer |
| mount-left-out | a container was started without a mount; `code=` says why |
| device-left-out | a container was started without a device file; `code=` says why |
| fuse-cut-off | a container ended while programs of its own waited for its FUSE file systems |
| came-back, come-back-failed | a container that ran before a boot was started again, or not |
| attach-failed | systemctl could not start one: its system can't be mounted; `code=` says why |
| stopped-by-announcement | a container is down for one; it comes back after it |
| stop-failed | a container could not be shut down for an announcement; `code=` says why |
| stays-down | one that ran is not: its user has left, or the server's policy says so |
| snapshot-taken | one that the server takes by itself |
| snapshot-failed | one that the server takes by itself could not be taken; `code=` says why |
| idleness-failed | who uses what could not be seen, kept or said, or one not stopped; `code=` |
| stopped-idle | a container was stopped because nobody used it |
| on-reserved-gpu | somebody's program is on a GPU of another one's, `of=`; they were told |
| notices-failed | nobody could say by mail whose disk is nearly full; `code=` says why |
| reservations-failed | nobody could look who is on reserved GPUs; `code=` says why |
| crashed | a mistake of ours ended a kind's work, or what iam was asked; report its `what=` |
| system-shifted | a system is stored with shifted ids, so no spare fits and it is no subvolume |
| spare-ready, spare-failed | a system of a template was made ready for the next one, or not |
| purged | a sysadmin deleted what a disabled user left |
"""

from __future__ import annotations

import syslog

IDENT = "lxc-gpu"


def event(code: str, /, **fields: object) -> None:
    """Write one event: `event=CODE name=value ...`, values with blanks in quotes."""
    words = [f"event={code}", *(f"{name}={_quoted(value)}" for name, value in fields.items())]
    syslog.openlog(IDENT, 0, syslog.LOG_DAEMON)
    syslog.syslog(syslog.LOG_NOTICE, " ".join(words))


def _quoted(value: object) -> str:
    text = str(value)
    plain = text and all(c.isprintable() and c not in " '\"=" for c in text)
    return text if plain else repr(text)
