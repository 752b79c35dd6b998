"""TLS to the directory, with the server's name checked by Python's `ssl` module.

ldap3 matches names with an old function that doesn't know IP addresses. The `ssl` module checks
them during the handshake, before anything is sent.
"""

from __future__ import annotations

import ssl

from ldap3 import Connection, Tls


class VerifiedTls(Tls):
    """Wraps a connection's socket, or fails if the server isn't who it should be."""

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(validate=ssl.CERT_REQUIRED)
        self._context = context
        self.refused: ssl.SSLCertVerificationError | None = None
        """Why the certificate was not believed."""
        self.certificate: bytes | None = None
        """The server's certificate (DER)."""

    def wrap_socket(self, connection: Connection, do_handshake: bool = False) -> None:
        """Called by ldap3 after connecting (ldaps) or after StartTLS."""
        name = connection.server.host
        try:
            connection.socket = connection.socket.wrapped(
                lambda real: self._context.wrap_socket(real, server_hostname=name)
            )
        except ssl.SSLCertVerificationError as error:
            self.refused = error
            raise
        self.refused = None
        self.certificate = connection.socket.getpeercert(binary_form=True)
