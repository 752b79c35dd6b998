"""The one way to ask systemd without a program: its methods, over its own socket. For root.

systemctl(1) uses that socket, too. It serves whoever is root, also where D-Bus's daemon is down.
(D-Bus Specification, "Message Protocol", "Type System", "Authentication Protocol";
org.freedesktop.systemd1(5).) Standard library only.
"""

from __future__ import annotations

import re
import socket
import struct
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from state.errors import LxcGpuError, Remedy

SOCKET = "/run/systemd/private"
PATIENCE = 25.0
"""Seconds that an answer may take: as for busctl(1)."""
LATE = "late"
"""No result of a job's, but ours for one that has none yet."""
AWAY = 2.0
"""Seconds for which systemd may have no socket: while it replaces itself (`daemon-reexec`)."""
_PROPERTIES = "org.freedesktop.DBus.Properties"
NAME = "org.freedesktop.systemd1"
NO_NUMBER = (1 << 64) - 1
"""What systemd says of 64 bits for "no limit" and "not known"."""
_LONGEST = 1 << 20
"""Bytes of an answer; ours are much shorter."""
_HEADER = "yyyyuua(yv)"
_BIG, _LITTLE = ord("B"), ord("l")
_ORDER = _LITTLE if sys.byteorder == "little" else _BIG
_CALL, _RETURN, _ERROR, _SIGNAL = 1, 2, 3, 4
_FIXED = {"y": "B", "b": "I", "i": "i", "u": "I", "t": "Q"}
_ALIGNED = {"y": 1, "g": 1, "v": 1, "t": 8, "(": 8}
"""Bytes to a multiple of which a value begins; all others: 4."""
Values = Sequence[Any]


class Variant(NamedTuple):
    """A value that brings its type along."""

    kind: str
    value: Any


class Call(NamedTuple):
    """A method of an object, and what it is given."""

    path: str
    interface: str
    member: str
    kinds: str = ""
    """The types of the values, in D-Bus's letters."""
    values: Values = ()


def called(*calls: Call) -> list[Values]:
    """What systemd answers to the calls, in their order. They are sent together.

    LxcGpuError if it refuses one, or doesn't answer.
    """
    if not calls:
        return []
    with _asked(calls, PATIENCE) as answers:
        found = dict(answers.next() for _ in calls)
        return [found[number] for number in range(1, len(calls) + 1)]


def done(job: Call, patience: float) -> str:
    """Have systemd do a job (`StartUnit`), and wait for its end. The result, usually `done`.

    `LATE` if it goes on for longer than `patience` seconds; LxcGpuError if it is refused.
    """
    with _asked([job], patience) as answers:
        _, (path,) = answers.next()
        with suppress(TimeoutError):
            return answers.end_of(path)
        return LATE


@contextmanager
def _asked(calls: Sequence[Call], patience: float) -> Iterator[_Answers]:
    """Send calls, whose numbers begin with 1."""
    try:
        with _connected() as connection:
            # empty data: who we are is what the kernel says
            connection.sendall(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")
            answers = _Answers(connection, patience)
            answers.begin()  # systemd may read what comes along only when it hears something else
            raw = (_message(number, call) for number, call in enumerate(calls, 1))
            connection.sendall(b"".join(raw))
            yield answers
    except (OSError, EOFError, struct.error, UnicodeDecodeError, KeyError, IndexError) as error:
        raise LxcGpuError(
            "system",
            "This server's systemd does not answer.",
            "Sysadmin: `systemctl status` says whether it does at all.",
            Remedy.WAIT,
            repr(error),
        ) from error


def properties(unit: str, names: Mapping[str, str]) -> dict[str, Any]:
    """Properties of a unit: `names` says of each in which interface it is (`Unit`, `Service`)."""
    return of_units([unit], names)[0]


def of_units(units: Iterable[str], names: Mapping[str, str]) -> list[dict[str, Any]]:
    """These properties of each of several units, in the units' order."""
    gets = [
        Call(unit_path(unit), _PROPERTIES, "Get", "ss", (f"{NAME}.{of}", name))
        for unit in units
        for name, of in names.items()
    ]
    found = (value.value for (value,) in called(*gets))
    return [dict(zip(names, each, strict=True)) for each in zip(*[found] * len(names), strict=True)]


def unit_path(unit: str) -> str:
    """The object of a unit; systemd reads one in that it has not loaded. Pure."""
    escaped = re.sub("[^A-Za-z0-9]", lambda found: f"_{ord(found[0]):02x}", unit)
    return f"/org/freedesktop/systemd1/unit/{escaped}"


def manager(member: str, kinds: str, values: Values) -> Call:
    """A method of systemd's manager (org.freedesktop.systemd1(5))."""
    return Call("/org/freedesktop/systemd1", f"{NAME}.Manager", member, kinds, values)


def _connected() -> socket.socket:
    until = time.monotonic() + AWAY
    while True:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(PATIENCE)
        try:
            connection.connect(SOCKET)
        except (ConnectionRefusedError, FileNotFoundError):
            connection.close()
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
        else:
            return connection


def _message(number: int, call: Call) -> bytes:
    fields = [
        (1, Variant("o", call.path)),
        (2, Variant("s", call.interface)),
        (3, Variant("s", call.member)),
        (6, Variant("s", NAME)),
        *([(8, Variant("g", call.kinds))] if call.kinds else []),
    ]
    body = packed(call.kinds, call.values)
    head = packed(_HEADER, (_ORDER, _CALL, 0, 1, len(body), number, fields))
    return _filled(head, 8) + body


class _Answers:
    """What comes back over a connection: the lines of its beginning, then messages."""

    def __init__(self, connection: socket.socket, patience: float) -> None:
        self._connection = connection
        self._raw = bytearray()
        self._until = time.monotonic() + patience

    def begin(self) -> None:
        """Wait until systemd has let us in."""
        while not self._line().startswith(b"OK"):
            pass

    def next(self) -> tuple[int, Values]:
        """The number of the call that is answered next, and the answer."""
        while True:
            head, body = self._message()
            if head[1] == _SIGNAL:
                continue
            fields = {name: value.value for name, value in unpacked(_HEADER, head)[6]}
            if head[1] == _ERROR:
                said = unpacked("s", body)[0] if fields.get(8, "").startswith("s") else ""
                raise LxcGpuError("system", f"systemd refuses: {said or fields.get(4, '')}")
            if head[1] == _RETURN:
                return fields[5], unpacked(fields.get(8, ""), body)

    def end_of(self, job: str) -> str:
        """How a job ended: systemd tells every connection of every one (`JobRemoved`)."""
        while True:
            head, body = self._message()
            if head[1] == _SIGNAL and b"\0JobRemoved\0" in head:  # it says much else: read no more
                _, ended, _, result = unpacked("uoss", body)
                if ended == job:
                    return str(result)

    def _line(self) -> bytes:
        while (end := self._raw.find(b"\r\n")) < 0:
            self._read()
        line = self._taken(end + 2)
        if line.startswith(b"REJECTED"):
            raise PermissionError("systemd serves root only")
        return line

    def _message(self) -> tuple[bytes, bytes]:
        """The header of the next message, whose second byte is the message's type, and its body."""
        while len(self._raw) < 16:
            self._read()
        _, _, _, _, length, _, of_fields = struct.unpack_from("=BBBBIII", self._raw)
        begin = -(-(16 + of_fields) // 8) * 8
        while len(self._raw) < begin + length:
            self._read()
        raw = self._taken(begin + length)
        return raw[:begin], raw[begin:]

    def _taken(self, count: int) -> bytes:
        taken = bytes(self._raw[:count])
        del self._raw[:count]
        return taken

    def _read(self) -> None:
        self._connection.settimeout(max(0.001, self._until - time.monotonic()))
        chunk = self._connection.recv(1 << 16)
        if not chunk or len(self._raw) > _LONGEST:
            raise EOFError
        self._raw += chunk


def packed(kinds: str, values: Values) -> bytes:
    """The values as bytes. Pure. Types that systemd's methods of ours don't take are left out."""
    raw = bytearray()
    for kind, value in zip(_each(kinds), values, strict=True):
        _pack(raw, kind, value)
    return bytes(raw)


def unpacked(kinds: str, raw: bytes) -> list[Any]:
    """The values in bytes. Pure. struct.error, KeyError or IndexError if they have other types."""
    found, at = list[Any](), 0
    for kind in _each(kinds):
        value, at = _unpack(kind, raw, at)
        found.append(value)
    return found


def _each(kinds: str) -> Iterator[str]:
    """The single types in a row of them."""
    begin = depth = 0
    for at, letter in enumerate(kinds):
        depth += (letter == "(") - (letter == ")")
        if depth == 0 and letter != "a":
            yield kinds[begin : at + 1]
            begin = at + 1


def _filled(raw: bytes, size: int) -> bytes:
    return raw + bytes(-len(raw) % size)


def _pack(raw: bytearray, kind: str, value: Any) -> None:
    raw += bytes(-len(raw) % _ALIGNED.get(kind[0], 4))
    match kind[0]:
        case "s" | "o":
            text = value.encode()
            raw += struct.pack("=I", len(text)) + text + b"\0"
        case "g":
            raw += bytes([len(value)]) + value.encode() + b"\0"
        case "v":
            _pack(raw, "g", value.kind)
            _pack(raw, value.kind, value.value)
        case "(":
            for inner, each in zip(_each(kind[1:-1]), value, strict=True):
                _pack(raw, inner, each)
        case "a":
            place = len(raw)
            raw += bytes(4)
            raw += bytes(-len(raw) % _ALIGNED.get(kind[1], 4))
            begin = len(raw)
            for each in value:
                _pack(raw, kind[1:], each)
            struct.pack_into("=I", raw, place, len(raw) - begin)
        case fixed:
            raw += struct.pack(f"={_FIXED[fixed]}", value)


def _unpack(kind: str, raw: bytes, at: int) -> tuple[Any, int]:
    at += -at % _ALIGNED.get(kind[0], 4)
    match kind[0]:
        case "s" | "o" | "g":
            size = "B" if kind == "g" else "I"
            (length,) = struct.unpack_from(f"={size}", raw, at)
            at += struct.calcsize(size)
            return raw[at : at + length].decode(), at + length + 1
        case "v":
            of, at = _unpack("g", raw, at)
            value, at = _unpack(of, raw, at)
            return Variant(of, value), at
        case "(":
            values = list[Any]()
            for inner in _each(kind[1:-1]):
                value, at = _unpack(inner, raw, at)
                values.append(value)
            return tuple(values), at
        case "a":
            (length,) = struct.unpack_from("=I", raw, at)
            at += 4
            at += -at % _ALIGNED.get(kind[1], 4)
            values, end = [], at + length
            while at < end:
                value, at = _unpack(kind[1:], raw, at)
                values.append(value)
            return values, at
        case fixed:
            (number,) = struct.unpack_from(f"={_FIXED[fixed]}", raw, at)
            return (bool(number) if fixed == "b" else number), at + struct.calcsize(_FIXED[fixed])
