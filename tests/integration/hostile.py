"""Real servers in the directory's place that do what they should not.

Messages as of RFC 4511.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from tests.integration.slapd import Certificates

OPENED = 0
"""Not a request, but a new connection."""
BIND, UNBIND, SEARCH, EXTENDED = 0x60, 0x42, 0x63, 0x77
"""Tags of requests: 4.2, 4.3, 4.5.1, 4.12."""
DONE = {BIND: 0x61, SEARCH: 0x65, EXTENDED: 0x78}
"""Tags of the answers that end them."""
OPERATIONS_ERROR, AUTH_METHOD_NOT_SUPPORTED, CONFIDENTIALITY_REQUIRED, OTHER = 1, 7, 13, 80
BUSY, UNAVAILABLE, UNWILLING, INVALID_CREDENTIALS = 51, 52, 53, 49
TIME_LIMIT, SIZE_LIMIT, REFERRAL, SASL_IN_PROGRESS = 3, 4, 10, 14


@contextmanager
def serving(talk: Callable[[socket.socket], None]) -> Iterator[int]:
    """The port of a server that has `talk` treat each connection in a thread of its own."""

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=talk, args=[listener.accept()[0]], daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]


def answer(request: bytes, tag: int, content: bytes) -> bytes:
    """A message of the kind `tag` to this request."""
    message = parts(request)[0] + bytes([tag, len(content)]) + content
    return bytes([0x30, len(message)]) + message


def parts(request: bytes) -> tuple[bytes, int]:
    """The id of a request, encoded, and its kind: RFC 4511, 5.1."""
    begin = 2 + (request[1] & 0x7F if request[1] > 0x7F else 0)
    end = begin + 2 + request[begin + 1]
    return request[begin:end], request[end]


def result(request: bytes, code: int, message: bytes = b"") -> bytes:
    """The answer that ends this request."""
    content = b"\x0a\x01" + bytes([code]) + b"\x04\x00\x04" + bytes([len(message)]) + message
    return answer(request, DONE[parts(request)[1]], content)


@contextmanager
def relaying(
    to: str,
    seen: Callable[[int], object] = lambda _: None,
    fault: Callable[[socket.socket, bytes], None] | None = None,
    at: tuple[int, int] = (0, 0),
    tls: Certificates | None = None,
) -> Iterator[str]:
    """The address of a server that asks `to` (ldap://ADDRESS:PORT), and tells `seen` what comes.

    At the request `at` (a kind, and which one of them, over all connections) `fault` is called
    instead, with the connection and the request.
    """
    host, _, port = to.removeprefix("ldap://").partition(":")
    lock, came = threading.Lock(), []

    def here(kind: int) -> bool:
        with lock:
            came.append(kind)
            seen(kind)
            return fault is not None and kind == at[0] and came.count(kind) == at[1]

    def wrapped(client: socket.socket) -> socket.socket:
        if tls is None:
            return client
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls.certificate, tls.key)
        return context.wrap_socket(client, server_side=True)

    def relay(plain: socket.socket) -> None:
        with suppress(OSError), plain, wrapped(plain) as client:
            talk(client)

    def talk(client: socket.socket) -> None:
        with socket.create_connection((host, int(port))) as up:
            threading.Thread(target=_copy, args=[up, client], daemon=True).start()
            here(OPENED)
            while request := client.recv(65536):
                if here(parts(request)[1]) and fault:
                    fault(client, request)
                else:
                    up.sendall(request)

    with serving(relay) as own:
        yield f"{'ldaps' if tls else 'ldap'}://127.0.0.1:{own}"


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)


def silent(_: socket.socket, __: bytes) -> None:
    """Say nothing more to this request."""


def cut(client: socket.socket, _: bytes) -> None:
    """Hang up."""
    client.shutdown(socket.SHUT_RDWR)


def saying(code: int, message: bytes = b"") -> Callable[[socket.socket, bytes], None]:
    """Answer with a code of RFC 4511, 4.1.9."""
    return lambda client, request: client.sendall(result(request, code, message))


def naming(dn: str) -> Callable[[socket.socket, bytes], None]:
    """Answer "Who am I?" (RFC 4532) with this name."""
    said = b"dn:" + dn.encode()
    content = b"\x0a\x01\x00\x04\x00\x04\x00\x8b" + bytes([len(said)]) + said
    return lambda client, request: client.sendall(answer(request, 0x78, content))
