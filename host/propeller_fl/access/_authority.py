"""The deployment's own certificate authority: P-256 throughout, which boards can do as well."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from propeller_fl.errors import ConfigError

_BACKDATED: Final = datetime.timedelta(days=1)  # for a board, or a machine, whose clock is behind
_AUTHORITY_DAYS: Final = 20 * 365
_SERVER_DAYS: Final = 825  # what clients commonly take at most
_CLIENT_DAYS: Final = 10 * 365  # it is the login that is taken back, not the certificate


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate and its key, both DER."""

    certificate: bytes
    key: bytes = field(repr=False)

    @property
    def serial(self) -> str:
        return f"{x509.load_der_x509_certificate(self.certificate).serial_number:x}"

    @property
    def expires(self) -> datetime.datetime:
        return x509.load_der_x509_certificate(self.certificate).not_valid_after_utc

    def certificate_pem(self) -> str:
        found = x509.load_der_x509_certificate(self.certificate)
        return found.public_bytes(Encoding.PEM).decode()

    def key_pem(self) -> str:
        key = load_der_private_key(self.key, None)
        return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def certificate_pem(der: bytes) -> str:
    return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM).decode()


def new_authority(name: str) -> KeyPair:
    """A certificate that signs others, and nothing below it may."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(name)
    builder = _builder(subject, subject, key.public_key(), _AUTHORITY_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
    return _pair(builder, key, key)


def new_server(authority: KeyPair, hosts: Iterable[str], *, also_client: bool = False) -> KeyPair:
    """For a broker and an HTTP server that are reached under ``hosts``, names or IP addresses.
    ``also_client``: and for the node of a cluster, which goes to the others as a client.

    Raises :class:`ConfigError` for one that is neither.
    """
    names = [_host(host) for host in dict.fromkeys(hosts)]
    extension = x509.SubjectAlternativeName(names)
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH]
    if also_client:
        purposes.append(ExtendedKeyUsageOID.CLIENT_AUTH)
    return _issue(authority, "propeller-fl server", _SERVER_DAYS, purposes, extension)


def new_client(authority: KeyPair, name: str) -> KeyPair:
    """For one identity, whose name is the certificate's common name."""
    return _issue(authority, name, _CLIENT_DAYS, [ExtendedKeyUsageOID.CLIENT_AUTH])


def _issue(
    authority: KeyPair,
    name: str,
    days: int,
    purposes: Iterable[x509.ObjectIdentifier],
    extension: x509.ExtensionType | None = None,
) -> KeyPair:
    issuer = x509.load_der_x509_certificate(authority.certificate)
    issuer_key = load_der_private_key(authority.key, None)
    assert isinstance(issuer_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(_name(name), issuer.subject, key.public_key(), days)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
    builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
    )
    if extension is not None:
        builder = builder.add_extension(extension, critical=False)
    return _pair(builder, key, issuer_key)


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _pair(
    builder: x509.CertificateBuilder,
    key: ec.EllipticCurvePrivateKey,
    signing_key: ec.EllipticCurvePrivateKey,
) -> KeyPair:
    certificate = builder.sign(signing_key, hashes.SHA256())
    return KeyPair(
        certificate.public_bytes(Encoding.DER),
        # RFC 5915: the shortest, and what every mbed TLS reads
        key.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption()),
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        if not host or any(c.isspace() or c in "/:@*" for c in host):
            raise ValueError
        return x509.DNSName(host)
    except ValueError:
        raise ConfigError(
            f"{host!r} is neither a host name nor an IP address", hint="no port, no scheme"
        ) from None
