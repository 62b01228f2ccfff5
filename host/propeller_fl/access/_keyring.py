"""Which credential a process uses: those it was given, or its deployment's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from propeller_fl.access._credential import Credential
from propeller_fl.access._desk import AccessDesk
from propeller_fl.access._permissions import AccessRole
from propeller_fl.config import PropletConfig, Settings
from propeller_fl.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Keyring:
    """Empty where nothing was given and ``init`` was not run: then there are no logins."""

    given: tuple[Credential, ...] = ()
    desk: AccessDesk | None = None

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Raises :class:`ConfigError` for a credential that cannot be read."""
        if settings.credentials:
            files = tuple(Credential.load(Path(f).expanduser()) for f in settings.credentials)
            return cls(files)
        return cls(desk=AccessDesk.at(settings.data_dir))

    def of_role(self, role: AccessRole) -> Credential | None:
        """A service's or an operator's; ``None`` where there are no logins."""
        if self.given:
            found = next((one for one in self.given if one.role is role), None)
            if found is None:
                held = ", ".join(f"{one.name} ({one.role})" for one in self.given)
                raise ConfigError(
                    f"no credential for the {role} is given, but for {held}",
                    hint=f"access/credentials/{role}.json of the deployment is one",
                )
            return found
        path = self.desk.path_of(role.value, role) if self.desk else None
        if path is not None and not path.exists():
            raise ConfigError(
                f"this deployment has no credential for the {role}",
                hint=f"`propeller-fl access rotate {role}` issues one",
            )
        return Credential.load(path) if path else None

    def has(self, role: AccessRole) -> bool:
        """Whether a service of ``role`` can log in: not with credentials from before there was such
        a service."""
        if self.given:
            return any(one.role is role for one in self.given)
        return self.desk is None or self.desk.path_of(role.value, role).exists()

    def of_proplet(self, name: str) -> Credential | None:
        """That proplet's; ``None`` where there are no logins."""
        if not self.given and self.desk is None:
            return None
        for one in self.given:
            if one.role is AccessRole.PROPLET and one.name == name:
                return one
        path = self.desk.path_of(name, AccessRole.PROPLET) if self.desk else None
        if path is None or not path.exists():
            raise ConfigError(
                f"there is no credential for the proplet {name}",
                hint=f"`propeller-fl proplet enroll {name}` issues one; "
                "`--credentials FILE` names one from elsewhere",
            )
        return Credential.load(path)

    def any(self) -> Credential | None:
        """One of them, for where the broker is."""
        if self.given:
            return self.given[0]
        # the node of a cluster has no other than the broker's
        role = AccessRole.OBSERVER if self.has(AccessRole.OBSERVER) else AccessRole.BROKER
        return self.of_role(role)

    def adapt(self, settings: Settings) -> Settings:
        """The settings with what the given credentials say: prefix, and proplets where the settings
        have the default ones."""
        if not self.given:
            return settings
        prefix = settings.topic_prefix or self.given[0].topic_prefix
        config = settings.proplet
        if self.proplets and config.ids == PropletConfig().ids:
            config = replace(config, ids=self.proplets)
        if not config.models_url and self.given[0].models:
            config = replace(config, models_url=self.given[0].models)
        return replace(settings, topic_prefix=prefix, proplet=config)

    @property
    def proplets(self) -> tuple[str, ...]:
        """The proplets whose credentials were given."""
        return tuple(one.name for one in self.given if one.role is AccessRole.PROPLET)
