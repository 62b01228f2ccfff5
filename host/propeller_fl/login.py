"""Where the broker of some settings is, and as whom a role logs in there."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from propeller_fl.access import AccessRole, Credential, Keyring
from propeller_fl.config import BrokerConfig, Settings
from propeller_fl.errors import ConfigError
from propeller_fl.link import BrokerAddress, TlsOptions

_EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # how to reach what listens there


def broker_address(
    config: BrokerConfig, credential: Credential | None = None, *, away: bool = False
) -> BrokerAddress:
    """Where the broker of these settings is, with login and TLS: those of ``credential``, if the
    settings name none. ``away``: the credential says where, unless the settings do.

    Raises :class:`ConfigError`, also for a way beyond this machine without TLS that
    ``broker.allow_plain`` does not allow."""
    address = _broker_address(config, credential, away)
    if address.tls is None and not address.is_loopback and not config.allow_plain:
        raise ConfigError(
            f"{address} is not this machine, and what goes there without TLS anybody can read and "
            "change",
            hint="use mqtts://; on a network that you trust altogether, set broker.allow_plain "
            "to true",
        )
    return address


def _broker_address(
    config: BrokerConfig, credential: Credential | None, away: bool
) -> BrokerAddress:
    if not config.url:
        if credential is not None and away:
            return credential.address()
        place = BrokerAddress(_EVERYWHERE.get(config.host, config.host), config.port)
        return credential.address(place) if credential else place
    address = BrokerAddress.parse(config.url)
    if config.password_file is not None:
        try:
            password = config.password_file.read_text().strip()
        except OSError as err:
            raise ConfigError(
                f"broker.password_file {config.password_file}: {err.strerror}"
            ) from err
        address = replace(address, password=password)
    if credential is not None and address.username is None:
        if address.tls is None:
            raise ConfigError(
                f"{address} would be given the password of {credential.name} without TLS",
                hint="use mqtts://",
            )
        return credential.address(address)
    if address.tls is not None or config.ca_file or config.cert_file or config.insecure:
        tls = TlsOptions(config.ca_file, config.cert_file, config.key_file, config.insecure)
        address = replace(address, tls=tls)
    return address


def login(settings: Settings, role: AccessRole) -> BrokerAddress:
    """The broker of these settings, as ``role`` logs in there. Raises :class:`ConfigError`."""
    keyring = Keyring.of(settings)
    return broker_address(settings.broker, keyring.of_role(role), away=bool(keyring.given))
