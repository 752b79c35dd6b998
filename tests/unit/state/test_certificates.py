"""Which certificates are believed, by handshakes."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from state.certificates import believing, strict
from tests.integration.certificates import DAY, HERE, Authority, authority, issue
from tests.integration.slapd import Certificates


@pytest.fixture(params=["3.11", "3.13"], autouse=True)
def python(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Contexts begin as each of these makes them."""
    made: Callable[..., ssl.SSLContext] = ssl.create_default_context
    added = ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN

    def create(*args: object, **options: object) -> ssl.SSLContext:
        context = made(*args, **options)
        if request.param == "3.13":
            context.verify_flags |= added
        else:
            context.verify_flags &= ~added
        return context

    monkeypatch.setattr(ssl, "create_default_context", create)


def refused(server: Certificates, context: ssl.SSLContext, name: str = "localhost") -> str:
    """Why a client with `context` refuses this server; empty if it doesn't."""
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(server.certificate, server.key)
    near, far = socket.socketpair()

    def serve() -> None:
        with suppress(OSError), theirs.wrap_socket(far, server_side=True):
            pass

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with near, context.wrap_socket(near, server_hostname=name):
            return ""
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    finally:
        far.close()
        thread.join()


@pytest.mark.parametrize("careful", [True, False])
def test_one_rule_with_every_python(tmp_path: Path, careful: bool) -> None:
    server = issue(tmp_path, authority(careful=careful), careful=careful)
    assert refused(server, believing(server.ca)) == ""
    assert bool(refused(server, strict(server.ca))) != careful


def test_a_server_that_vouches_for_itself_is_believed_by_its_own_certificate(
    tmp_path: Path,
) -> None:
    server, other = issue(tmp_path / "one", None), issue(tmp_path / "two", None)
    assert refused(server, believing(server.certificate)) == ""
    assert refused(server, believing(other.certificate)) != ""
    assert refused(server, believing()) != ""


def test_what_proves_something_is_checked_all_the_same(tmp_path: Path) -> None:
    lab = authority()
    server = issue(tmp_path / "server", lab)
    assert "Hostname mismatch" in refused(server, believing(server.ca), "dc1.mylab.com")
    impostor = issue(tmp_path / "impostor", authority("Lab CA"))
    assert refused(impostor, believing(server.ca)) != ""
    old = issue(tmp_path / "old", lab, ends=-DAY)
    assert "expired" in refused(old, believing(old.ca))


def test_a_server_s_certificate_signs_no_other(tmp_path: Path) -> None:
    """Without strictness, too: who holds a server's key can't make itself another server."""
    lab = authority()
    server = issue(tmp_path / "server", lab)
    leaf = x509.load_pem_x509_certificate(server.certificate.read_bytes())
    key = load_pem_private_key(server.key.read_bytes(), None)
    forged = issue(tmp_path / "forged", Authority(leaf, key), names=HERE[::-1])  # type: ignore[arg-type]
    with forged.certificate.open("ab") as chain:
        chain.write(server.certificate.read_bytes())
    assert "invalid CA" in refused(forged, believing(server.ca))
