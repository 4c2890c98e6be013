"""TLS to a server, as its address says."""

from __future__ import annotations

import ssl

from linkly_workers.database._server.address import ServerAddress


def context_of(address: ServerAddress) -> ssl.SSLContext:
    """Return how a connection is secured where the address wants that.

    Raises:
        OSError: A file of certificates cannot be read.
    """
    try:
        context = ssl.create_default_context(cafile=address.ca_cert)
    except OSError as error:
        raise OSError(f"the certificates of {address.ca_cert} cannot be read: {error}") from error
    context.verify_flags &= (
        ~ssl.VERIFY_X509_STRICT
    )  # Python's default from 3.13 on; libpq and MySQL's clients take older private CAs as well
    context.check_hostname = address.ssl == "verify-full"
    if address.ssl == "require":
        context.verify_mode = ssl.CERT_NONE
    if address.client_cert is not None:
        context.load_cert_chain(*address.client_cert)
    return context
