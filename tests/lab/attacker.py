"""What an attacker runs in a container: frames by hand, listeners, connections.

Tests send this file's text, and a few lines that use it, to a Python that has entered the
container's user and network namespaces: what it may do there is what the container's root may.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

EVERYBODY = "ff:ff:ff:ff:ff:ff"
IPV4, ARP, IPV6, VLAN, OTHER = 0x0800, 0x0806, 0x86DD, 0x8100, 0x88B5
REQUEST, REPLY = 1, 2


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def frame(source: str, target: str, kind: int, payload: bytes) -> bytes:
    return mac(target) + mac(source) + struct.pack("!H", kind) + payload


def arp(
    source: str, ip: str, asked: str, op: int = REPLY, target: str = EVERYBODY, inner: str = ""
) -> bytes:
    """`ip` is at `inner` (default: `source`), says `source`."""
    body = struct.pack("!HHBBH", 1, IPV4, 6, 4, op) + mac(inner or source) + socket.inet_aton(ip)
    return frame(source, target, ARP, body + mac(target) + socket.inet_aton(asked))


def udp(ip: str, to: str, source_port: int = 4000, port: int = 4000) -> bytes:
    """An IPv4 packet with a UDP datagram, without its payload's checksum; to be padded."""
    size = 20 + 8 + 32
    head = struct.pack("!BBHHHBBH", 0x45, 0, size, 1, 0, 64, 17, 0)
    head += socket.inet_aton(ip) + socket.inet_aton(to)
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    head = head[:10] + struct.pack("!H", ~total & 0xFFFF) + head[12:]
    return head + struct.pack("!HHHH", source_port, port, 40, 0)


def router_advertisement() -> bytes:
    """From fe80::1 to all nodes: `I am your way out` (RFC 4861)."""
    body = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0)
    return (
        struct.pack("!IHBB", 0x60000000, len(body) + 32, 58, 255)
        + socket.inet_pton(socket.AF_INET6, "fe80::1")
        + socket.inet_pton(socket.AF_INET6, "ff02::1")
        + body
    )


def send(token: str, *frames: bytes, device: str = "eth0") -> None:
    """Send each frame with `token` behind it."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind((device, 0))
        for each in frames:
            raw.send(each + token.encode().ljust(32, b"."))


def flood(count: int, device: str = "eth0") -> None:
    """Frames under as many MACs."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind((device, 0))
        for _ in range(count):
            raw.send(mac(EVERYBODY) + b"\x06" + os.urandom(5) + b"\x88\xb5" + bytes(46))


END = "token-end"
"""The token of the frame after which nobody needs to listen any more."""


def listen(ready: str, device: str = "eth0") -> None:
    """Print the tokens of the frames that arrive until END does, meant for us or not.

    The file `ready` is made once all is heard.
    """
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as raw:
        raw.bind((device, 0))
        # packet(7): SOL_PACKET, PACKET_ADD_MEMBERSHIP, PACKET_MR_PROMISC
        member = struct.pack("iHH8s", socket.if_nametoindex(device), 1, 0, b"")
        raw.setsockopt(263, 1, member)
        raw.settimeout(60)
        Path(ready).touch()
        token = ""
        while token != END:
            packet, (_, _, kind, *_) = raw.recvfrom(2048)
            if kind != socket.PACKET_OUTGOING and b"token-" in packet:
                token = packet[packet.index(b"token-") :].split(b".")[0].decode()
                print(token, flush=True)


def gets_out(source: str, address: str, port: int) -> None:
    """Print `out` for every connection from `source` that is made, of ten within a second."""

    def tries() -> None:
        try:
            socket.create_connection((address, port), timeout=1, source_address=(source, 0)).close()
            print("out")
        except OSError:
            pass

    with ThreadPoolExecutor(10) as pool:
        for _ in range(10):
            pool.submit(tries)
            time.sleep(0.1)


def connect(address: str, port: int) -> None:
    """Print what comes of a TCP connection: `open`, `refused`, or another word for no."""
    try:
        with socket.create_connection((address, port), timeout=3):
            print("open")
    except TimeoutError:
        print("timeout")
    except OSError as error:
        print({errno.ECONNREFUSED: "refused"}.get(error.errno or 0, error.strerror))


def silent(address: str, port: int, count: int) -> list[socket.socket]:
    """Open connections that say nothing; print how many there are."""
    opened = []
    for _ in range(count):
        with suppress(OSError):
            opened.append(socket.create_connection((address, port), timeout=3))
    print(len(opened))
    return opened


def hold(ready: str, until: str) -> None:
    """Make the file `ready`, and keep all that is open until the file `until` is gone."""
    Path(ready).touch()
    while Path(until).exists():
        time.sleep(0.05)


def greeting(address: str, port: int) -> None:
    """Print the first bytes of what answers, or why nothing does."""
    try:
        with socket.create_connection((address, port), timeout=20) as connection:
            print(connection.recv(4).decode() or "closed")
    except OSError as error:
        print(error.strerror or "timeout")
