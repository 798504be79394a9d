"""TLS as a target's settings ask for it."""

from __future__ import annotations

from check_delayed_repl.light import TYPE_CHECKING
from check_delayed_repl.observe.address import Settings

if TYPE_CHECKING:
    import ssl


def tls_context(found: Settings) -> ssl.SSLContext:
    """Raises OSError or ValueError, in words."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = found.ssl_mode == "verify-identity"
    # Certificates as the servers make them for themselves do not pass the strict rules of newer Pythons.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.verify_mode = ssl.CERT_REQUIRED if found.ssl_mode.startswith("verify-") else ssl.CERT_NONE
    if found.ssl_key is not None and found.ssl_cert is None:
        raise ValueError("--ssl-key without --ssl-cert")
    option = f"--ssl-ca {found.ssl_ca}"
    try:
        if context.verify_mode == ssl.CERT_REQUIRED:
            if found.ssl_ca is None:
                context.load_default_certs()
            else:
                context.load_verify_locations(cafile=found.ssl_ca)
        if found.ssl_cert is not None:
            option = f"--ssl-cert {found.ssl_cert}"
            # An empty password: OpenSSL would ask the terminal for the one of an encrypted key, and wait.
            context.load_cert_chain(found.ssl_cert, found.ssl_key, lambda: "")
    except OSError as error:
        raise ValueError(f"{option}: {getattr(error, 'reason', None) or error.strerror}") from None
    return context
