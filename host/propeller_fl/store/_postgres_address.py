"""Where a PostgreSQL server is, without what only its users may know."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from propeller_fl.errors import ConfigError


@dataclass(frozen=True, slots=True)
class PostgresAddress:
    """``url`` as libpq reads it, with no password in it; that is what ``password_file`` holds.

    ``hung_after_s``: a leader of which the server hears nothing for so long is none any more.
    """

    url: str
    password_file: Path | None = None
    hung_after_s: float = 60.0

    def __str__(self) -> str:
        scheme, _, rest = self.url.partition("://")
        return f"{scheme}://{rest.partition('?')[0]}"

    def password(self) -> str | None:
        """As it is in the file now. Raises :class:`ConfigError`."""
        if self.password_file is None:
            return None
        try:
            return self.password_file.read_text().strip()
        except (OSError, UnicodeDecodeError) as err:
            why = err.strerror if isinstance(err, OSError) else "it is no text"
            raise ConfigError(
                f"coordinator.database_password_file {self.password_file}: {why}"
            ) from err
