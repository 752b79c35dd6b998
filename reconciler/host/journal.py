"""Events for sysadmins, one a line, with stable codes: `journalctl -t lxc-gpu`.

| code | what happened |
| --- | --- |
| asked | a request reached the root helper |
| refused | a request was refused; `code=` says why |
| asker-gone | a request was ended because its user had gone |
| not-charged | a request was not counted with its user's sessions; `why=` says why |
| registered, started, stopped | the result of a user's request |
| unconfined | a container starts without AppArmor's profile, on a server that has AppArmor |
| shared-memory | /dev/shm of a container that runs doesn't follow its new limit; `why=` says why |
| undertaken | a snapshot was taken, a container's system replaced; `what=` says which |
| not-removed | the rest of a system or snapshot can't be removed now; `why=` says why |
| changed | a round changed something, as the state says |
| drift | a round put back what was changed by hand |
| failed | a round could not put something right |
| news-unused | what a nudge brought was not taken, and the repository asked; `why=` says why |
| round-refused | a newer revision was not taken |
| driver | something about NVIDIA's driver is not as it should be; `code=` says what |
| suspended, resumed | a sysadmin suspended the server, or ended that |
| mount-left-out | a container was started without a mount; `code=` says why |
| device-left-out | a container was started without a device file; `code=` says why |
| fuse-cut-off | a container ended while its programs waited for its FUSE file systems |
| not-noted | a container that starts can't be noted as running: it won't come back after a boot |
| came-back, come-back-failed | a container that ran before a boot was started again, or not |
| attach-failed | systemctl can't start a container: its system isn't mounted; `code=` says why |
| stopped-by-announcement | a container was shut down for an announcement |
| stop-failed | a container could not be shut down for an announcement; `code=` says why |
| stays-down | a container isn't started again: its user left, or the policy says so |
| snapshot-taken | the server took an automatic snapshot |
| snapshot-failed | an automatic snapshot could not be taken; `code=` says why |
| idleness-failed | a look at idle containers, or a stop, failed; `code=` says why |
| stopped-idle | a container was stopped because nobody used it |
| on-reserved-gpu | a user was told of a program on a GPU that `of=` has reserved |
| notices-failed | notices about nearly full disks could not be kept; `code=` says why |
| reservations-failed | a look at reserved GPUs failed; `code=` says why |
| crashed | a bug of lxc-gpu ended a kind or a request of iam; report its `what=` |
| system-shifted | a system is stored with shifted ids: no spare fits, and it isn't a subvolume |
| spare-ready, spare-failed | a spare system of a template was made, or not |
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
