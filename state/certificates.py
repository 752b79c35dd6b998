"""Which TLS certificates are believed: one rule with every Python. Standard library only.

From 3.13 on, Python refuses what breaks the form that RFC 5280 asks for, such as a certificate that
doesn't name its authority's key (4.2.1.1), which Samba and many a laboratory's own authority make.
That proves nothing more: signatures, dates, names and signers are checked without. So it is
left out everywhere, and an upgrade of the operating system refuses nothing that was believed
before. From 3.13 on, Python also believes what stands in the list itself, be it no root: so do we.
"""

from __future__ import annotations

import ssl
from pathlib import Path


def believing(ca_file: Path | None = None) -> ssl.SSLContext:
    """A context for clients: `ca_file` says who is believed, without it the system's list.

    OSError (ssl.SSLError is one) if the file can't be read or holds no certificate.
    """
    context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def strict(ca_file: Path | None = None) -> ssl.SSLContext:
    """A context as strict as the default of Python 3.13 and later."""
    context = believing(ca_file)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context
