"""Certificates: the relay's own for a workshop, and how a client knows one again by its fingerprint alone."""

from __future__ import annotations

import datetime as dt
import ipaddress
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedart_nb._system.files import write_private
from fedart_nb.errors import RelayError
from fedart_nb.relay.wire import sha256_hex

__all__ = ["Certificate", "not_trusted", "pinned_context", "raise_if_not_trusted"]

_YEARS = 10  # the fingerprint in the invite is what counts, not the date
_STRICT = getattr(ssl, "VERIFY_X509_STRICT", 0)


@dataclass(frozen=True)
class Certificate:
    """Files of a certificate and its key, both PEM. `pin` is the fingerprint to hand out when nobody vouches for it."""

    certificate: Path
    key: Path
    pin: str | None = None

    def __post_init__(self) -> None:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.certificate, self.key, password="")
        except OSError as error:
            raise RelayError(
                f"{self.certificate} and {self.key} are no certificate and key that fit together ({error}). "
                "Give two PEM files, the key without a password."
            ) from error

    @classmethod
    def self_signed(cls, folder: Path, host: str) -> Certificate:
        """The certificate in `folder`, made there when it is missing; the same folder keeps its fingerprint."""
        certificate, key = folder / "certificate.pem", folder / "certificate-key.pem"
        if not (certificate.exists() and key.exists()):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            certificate_pem, key_pem = _made(host)
            write_private(key, key_pem)
            write_private(certificate, certificate_pem)
        made = cls(certificate, key)
        der = ssl.PEM_cert_to_DER_cert(certificate.read_text(encoding="ascii"))
        return cls(made.certificate, made.key, sha256_hex(der))


def pinned_context(der: bytes) -> ssl.SSLContext:
    """A context that trusts this one certificate, whatever names stand in it, and no other."""
    context = ssl.create_default_context(cadata=der)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~_STRICT
    return context


def not_trusted(url: str, shown: str, expected: str | None) -> str:
    """The sentence for a relay whose certificate is another than the one in the link."""
    return (
        f"The relay at {url} shows the certificate {shown[:16]}..., the link names {str(expected)[:16]}... "
        "Somebody may stand between you and the relay, or it has a new certificate. Nothing was sent; ask the host for "
        "a new link."
    )


def raise_if_not_trusted(error: BaseException, url: str, expected: str | None) -> None:
    """Raise RelayError when a connection failed because of the certificate: waiting would not help."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        return
    if expected is not None:
        raise RelayError(not_trusted(url, "another", expected)) from error
    raise RelayError(
        f"This computer does not trust the certificate of the relay at {url} ({cause.verify_message}). If the relay "
        "made it itself, its address ends in #cert=...: copy all of it, or ask the host for a new link."
    ) from error


def _made(host: str) -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fedart relay")])
    now = dt.datetime.now(dt.UTC)
    names: list[x509.GeneralName] = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    for known in {host, socket.gethostname()} - {"", "localhost", "127.0.0.1"}:
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(known)))
        except ValueError:
            if known.isascii():
                names.append(x509.DNSName(known))
    public = key.public_key()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=30))  # clocks of kernels may be slow
        .not_valid_after(now + dt.timedelta(days=365 * _YEARS))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)  # it vouches for nobody else
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM), key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
