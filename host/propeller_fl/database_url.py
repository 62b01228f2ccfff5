"""Where the coordinator's rounds are: a file, or a database by its URL."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from propeller_fl.config import Settings
    from propeller_fl.store import PostgresAddress

_SECRETS: Final = ("password", "sslpassword")
_HERE: Final = ("127.0.0.1", "localhost", "[::1]")


def database_url_fault(url: str) -> tuple[str, str] | None:
    """What is wrong with it and what to try; ``None`` when it may be used, or is empty. Nothing of
    it is in the answer, since there might be a password."""
    if not url:
        return None
    try:
        parts = urlsplit(url)
    except ValueError:
        return "is no URL", "postgresql://user@host:port/database"
    if parts.scheme not in ("postgresql", "postgres"):
        return "names no PostgreSQL database", "postgresql://user@host:port/database"
    user, _, hosts = parts.netloc.rpartition("@")
    query = parse_qs(parts.query, keep_blank_values=True)
    if ":" in user or any(name in query for name in _SECRETS):
        hint = "put it into a file, and name that in coordinator.database_password_file"
        return "has a password in it", hint
    if "sslmode" not in query and not all(map(_is_here, _hosts(hosts, query))):
        hint = "add ?sslmode=verify-full; on a network that you trust altogether, sslmode=disable"
        return "leads beyond this machine, and does not say how that is protected", hint
    return None


def rounds_place(settings: Settings) -> Path | PostgresAddress:
    """Where the coordinator of these settings keeps its rounds."""
    from propeller_fl.store import PostgresAddress  # who checks settings needs no store

    config = settings.coordinator
    if not config.database_url:
        return settings.data_dir / "coordinator" / "rounds.db"
    return PostgresAddress(config.database_url, config.database_password_file, config.hung_after_s)


def _hosts(netloc: str, query: dict[str, list[str]]) -> list[str]:
    named = [*query.get("host", []), *query.get("hostaddr", [])] or [netloc]
    return [host for names in named for host in names.split(",")]


def _is_here(host: str) -> bool:
    """A socket's directory is, and so is no host at all."""
    name, colon, port = host.rpartition(":")
    if not colon or not port.isdigit():
        name = host
    return not name or name.startswith(("/", "%2F", "%2f", "@")) or name in _HERE
