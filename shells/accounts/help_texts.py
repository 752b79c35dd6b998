"""Texts for researchers."""

from __future__ import annotations

from collections.abc import Mapping

from shells.usage import SEE_HELP, Verb
from state.errors import LxcGpuError

FILES_LIVE_ELSEWHERE = """\
No files live here: this account only starts and stops your container.
Copy to the container instead, by its own name, without `-manage`:
  scp FILE SERVER:     rsync -a FOLDER SERVER:     sftp SERVER"""
_SFTP = ("internal-sftp", "sftp-server")
_FILE_TRANSFERS = ("scp", "rsync", *_SFTP, "git-", "tar")

SUMMARIES: Mapping[str, str] = {
    "start": "start your container if it is stopped (also without a verb)",
    "stop": "shut your container down; its files stay",
    "restart": "stop, then start",
    "status": "whether your container runs, since when, and what it uses",
    "port": "map a port of the server to one of your container; list those",
    "connect": "for ssh itself: start your container, and lead ssh to it",
    "gpus": "who uses which GPU, and how much CPU and memory",
    "reserve": "GPUs for some time: `reserve 2 8h`; `--from`, `--first-free`",
    "reservations": "whose GPUs until when",
    "release": "give back what you reserved",
    "notify": "a mail when GPUs are free: `notify 2`; `--stop`",
    "shell": "root in your container, also when its own ssh lets nobody in",
    "snapshot": "keep your container as it is now; `--list`, `--remove NAME`",
    "recover": "back to a snapshot, or only files of one; `--undo`",
    "rebuild": "begin anew from the template; `--keep-home`, `--undo`",
    "help": "this text; `help VERB` for one verb, with examples",
}
_LONG: Mapping[str, str] = {
    "start": """\
  ssh gpu17-manage
  ssh gpu17-manage start
  ssh gpu17-manage start --quick    without trying whether your shell works

Then log in: ssh gpu17""",
    "stop": "  ssh gpu17-manage stop\n\nPrograms inside are asked to end, and killed after 30 s.",
    "restart": "  ssh gpu17-manage restart\n\nFor a container that no longer answers.",
    "status": "  ssh gpu17-manage status\n  ssh gpu17-manage status --json | jq .running",
    "port": """\
  ssh gpu17-manage port 8888            an address, for everybody
  ssh gpu17-manage port 60001 --udp     the same for UDP
  ssh gpu17-manage port                 list them
  ssh gpu17-manage port --remove 8888   take it away

The address stays the same until you take it away. The program inside has to
listen on all addresses (0.0.0.0), and whoever reaches the server reaches it:
give it a password. For yourself alone, `ssh -L 8888:localhost:8888 gpu17` does.""",
    "connect": """\
  ProxyCommand ssh -T gpu17-manage connect  in ~/.ssh/config, below `Host gpu17`

With that, `ssh gpu17`, scp, rsync and editors start a stopped container by
themselves and need no port of the server but ssh. Your page on the web hands
out a whole configuration of that kind.""",
    "gpus": """\
  ssh gpu17-manage gpus
  ssh gpu17-manage gpus --json | jq '.gpus[] | select(.processes == [])'
  watch -n 5 ssh gpu17-manage gpus

What `nvidia-smi` in a container can't show: whose the programs are. Of others
you see the name, the memory and since when, not what they typed. CPUs are
counted over a fifth of a second.""",
    "reserve": """\
  ssh gpu17-manage reserve 2 8h          two GPUs from now on, for eight hours
  ssh gpu17-manage reserve 2 8h --from tomorrow 9:00
  ssh gpu17-manage reserve 2 8h --first-free     as soon as it fits
  ssh gpu17-manage reserve gpu3 1d       this one; its UUID does, too
  ssh gpu17-manage reserve 2 --until fri 18:00
  ssh gpu17-manage reserve 4 2h --from mon 14:00 --every week --until 2026-12-31
  ssh gpu17-manage reserve --extend r17 2h       two hours more
  ssh gpu17-manage reserve --to ann r17          what is left of it is ann's

Others see that the GPUs are yours then. It is an agreement: no program is ended
for it, so ask whoever is on them. The server takes GPUs that nobody reserved
and, if it can, that nobody uses. Lengths: 90m, 8h, 1d12h, 2w. Times: 18:00,
tomorrow 9:00, friday, mon 14:00, 2026-12-01 9:00, in 2h; by the server's clock.
`reservations` shows what one person may have.""",
    "reservations": """\
  ssh gpu17-manage reservations
  ssh gpu17-manage reservations --json | jq '.reservations[].user'
  ssh gpu17-manage reservations --ics >gpu17.ics     for your calendar

Yours have a `*`.""",
    "release": """\
  ssh gpu17-manage release          if you have only one
  ssh gpu17-manage release r17
  ssh gpu17-manage release s20      all that is left of a weekly series

Others can have the GPUs at once. Your programs run on.""",
    "notify": """\
  ssh gpu17-manage notify 2          when two GPUs are free
  ssh gpu17-manage notify 2 A100     ... whose name has A100 in it
  ssh gpu17-manage notify            what you wait for here
  ssh gpu17-manage notify --stop     wait no more

One mail, once so many that your container sees are free: nobody has a program
on them, and nobody else has reserved them for now or the next hour. Others may
read the same mail: `reserve` has them kept for you.""",
    "shell": """\
  ssh -t gpu17-manage shell                     a shell, as root
  ssh gpu17-manage shell 'chown lqchen: /home/lqchen'
  ssh gpu17-manage shell 'apt-get install -y openssh-server'
  ssh gpu17-manage shell 'cat >/etc/motd' <motd

For a container into which `ssh gpu17` no longer leads: it needs neither an sshd
nor an account or a start-up file in it. All that follows `shell` is given to
the container's /bin/sh as you typed it, and its exit status is yours. A stopped
container is started first. The shell ends with your connection. For daily work,
`ssh gpu17` is the better way: programs here can't use raw sockets.""",
    "snapshot": """\
  ssh gpu17-manage snapshot                  named after server and time
  ssh gpu17-manage snapshot before-upgrade   a name of your own: it stays
  ssh gpu17-manage snapshot --list
  ssh gpu17-manage snapshot --archive        an archive, also where a snapshot
                                             stays on the container's disk
  ssh gpu17-manage snapshot --remove before-upgrade
  ssh gpu17-manage snapshot --to-stdout >backup.tar.zst
  ssh gpu17-manage snapshot --to-stdout | ssh gpu18-manage recover --from-stdin

The container may run meanwhile. In it is everything but what is made anew at
each start: the contents of /dev, /proc, /run, /sys, /tmp, and folders of the
server (/SSD, /NAS, ...). When there are too many, the oldest to which you gave
no name makes room.
On a disk with btrfs a snapshot takes a moment and next to no room. It is on the
same disk as the container, so it is no backup; an archive can be.
ctrl-C doesn't end the snapshot, and `snapshot --list` shows how far it is. With
`--to-stdout`, ctrl-C does end it.""",
    "recover": """\
  ssh -t gpu17-manage recover before-upgrade    asks first
  ssh gpu17-manage recover before-upgrade thesis /etc/fstab    these files only
  ssh -t gpu17-manage recover --undo            to the previous system, and back
  ssh -t gpu17-manage recover --forget          remove the previous system
  ssh gpu17-manage recover --from-stdin <backup.tar.zst
  ssh gpu17-manage snapshot --to-stdout | ssh gpu18-manage recover --from-stdin

Everything in the container becomes as it was then; `snapshot --list` has the
names. What came later is in the previous system, which is kept until the next
`recover` or `rebuild`. Your container runs on while the snapshot is unpacked,
and is restarted at the end; a stopped one stays stopped. Its name, addresses
and host keys stay.
Without -t, or in a script, it tells how to say yes. `--from-stdin` doesn't ask:
undo it. ctrl-C doesn't stop it, `status` shows how it goes; it does stop
`--from-stdin`.

Files, and folders with all that is in them, come back as they were into
/recovered/NAME, a new folder in your container, which runs on. Nothing is
replaced, so nothing is asked. Their names begin in your home, or with /. Names
with blanks are quoted twice: recover NAME "'my file'".""",
    "rebuild": """\
  ssh -t gpu17-manage rebuild --keep-home       a new system, with your /home
  ssh -t gpu17-manage rebuild                   a new system, and nothing else
  ssh -t gpu17-manage rebuild --template NAME   from another template
  ssh -t gpu17-manage rebuild --undo            to the previous system, and back
  ssh -t gpu17-manage rebuild --forget          remove the previous system

For a container that is broken beyond repair. Name, addresses and host keys
stay. The server's page says which templates there are; without `--template` it
is the one that you chose last. With `--keep-home` the container is stopped
while /home is copied, which needs room for a second one. Owners keep their
numbers: accounts that you made yourself have to be made again. The previous
system is kept until the next `recover` or `rebuild`.""",
    "help": "  ssh gpu17-manage help\n  ssh gpu17-manage help stop",
}


def is_file_transfer(program: str) -> bool:
    """Whether a request comes from scp, sftp, rsync, ...: people look for their files here."""
    return program.rsplit("/", 1)[-1].startswith(_FILE_TRANSFERS)


def is_sftp(program: str) -> bool:
    """Whether the other side waits for an answer in the sftp protocol."""
    return program.rsplit("/", 1)[-1].startswith(_SFTP)


def help_text(verb: str) -> str:
    """The help for one verb, or for all; LxcGpuError for one that doesn't exist."""
    if not verb:
        lines = "\n".join(f"  {name:<14}{text}" for name, text in SUMMARIES.items())
        return (
            "Your container on this server: ssh SERVER-manage [VERB] [--json]\n\n"
            f"{lines}\n\nTo work in it: ssh SERVER"
        )
    if verb not in SUMMARIES:
        raise LxcGpuError("usage", f"There is no `{verb[:40]}` here.", SEE_HELP)
    return f"{verb}: {SUMMARIES[verb]}\n\n{_LONG[verb]}"


def not_yours(verb: Verb) -> str:
    """What `register` answers to somebody who names another person."""
    return f"`{verb}` is for the owner of the key only."
