"""HTTP with one registry: logins, tokens, redirects, bounds.

What a registry sends is believed only as far as a digest or a bound goes. Authorization goes to the
registry's own address and to nobody it redirects to; nothing leads from HTTPS to plain HTTP.
"""

from __future__ import annotations

import email.utils
import json
import re
import ssl
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode, urljoin, urlsplit

import urllib3
from urllib3.exceptions import HTTPError

from propeller_fl.config import RegistryConfig
from propeller_fl.errors import ImageError, RegistryError
from propeller_fl.oci._credentials import Login
from propeller_fl.oci._reference import Reference, is_loopback

_CONNECT_S: Final = 10.0
_SILENCE_S: Final = 30.0  # without a byte
_CHUNK_BYTES: Final = 64 * 1024
_MAX_REDIRECTS: Final = 5
_MAX_TOKEN_BYTES: Final = 1024 * 1024
_MAX_ERROR_BYTES: Final = 64 * 1024
_MAX_RETRY_AFTER_S: Final = 300.0
_PASSING: Final = (408, 425, 429, 500, 502, 503, 504)
_REDIRECTS: Final = (301, 302, 303, 307, 308)
_HEADER_SAFE: Final = re.compile(r"[\x21-\x7e]+")
_CHALLENGE: Final = re.compile(
    r'([A-Za-z0-9_-]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^\s",]+)|([A-Za-z][A-Za-z0-9-]*)'
)
_CLIENT: Final = "propeller-fl"


@dataclass(frozen=True, slots=True)
class Answer:
    """A response whose body, if there is one, has been read."""

    status: int
    headers: Mapping[str, str]
    url: str
    body: bytes = b""


class Transport:
    """Requests about one repository, for one pull or push; one thread.

    ``login`` is asked when the registry wants one. ``deadline_s`` is of ``time.monotonic``; all
    together end by it, give or take the ``_SILENCE_S`` of the last one.
    """

    def __init__(
        self,
        reference: Reference,
        actions: str,
        config: RegistryConfig,
        login: Callable[[str], Login | None],
        deadline_s: float,
    ) -> None:
        self._reference = reference
        self._scope = f"repository:{reference.name}:{actions}"
        self._config = config
        self._login = login
        self._deadline_s = deadline_s
        self._authorization = ""
        plain = self._may_be_plain(reference.host)
        self.base = f"{'http' if plain else 'https'}://{reference.host}/v2/{reference.name}/"

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        max_bytes: int = _MAX_ERROR_BYTES,
    ) -> Answer:
        """Send, and read the whole answer, of any status that is none of failure, up to
        ``max_bytes``. Raises :class:`ImageError`, or :class:`RegistryError` for what may pass."""
        with self._open(method, url, headers or {}, body) as response:
            data = b"" if method == "HEAD" else b"".join(self._chunks(response, max_bytes))
            return Answer(response.status, response.headers, url, data)

    def stream(self, url: str, size: int) -> Iterator[bytes]:
        """The ``size`` bytes at ``url``. Raises likewise, also when there are more or fewer."""
        with self._open("GET", url, {"Accept-Encoding": "identity"}, None) as response:
            if response.status != 200:
                raise self._failure(response, "GET", url)
            count = 0
            for chunk in self._chunks(response, size):
                count += len(chunk)
                yield chunk
            if count != size:
                raise self._broken(f"it sent {count} of {size} bytes")

    # --- inside

    def _open(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> _Opened:
        """Log in and follow redirects as need be."""
        wanted, logged_in, redirects = url, False, 0
        while True:
            own = _origin(url) == _origin(self.base)
            authorization = {"Authorization": self._authorization} if self._authorization else {}
            response = self._send(method, url, {**headers, **(authorization if own else {})}, body)
            if response.status == 401 and own and not logged_in:
                challenges = response.headers.getlist("WWW-Authenticate")
                response.close()
                self._authorization = self._authorize(challenges)
                url, logged_in = wanted, True
                continue
            if response.status in _REDIRECTS and method in ("GET", "HEAD"):
                location = response.headers.get("Location", "")
                response.close()
                redirects += 1
                if redirects > _MAX_REDIRECTS:
                    raise self._refuses(f"it redirected more than {_MAX_REDIRECTS} times")
                url = self._target(url, location, "a redirect")
                continue
            if response.status >= 400 and not (method == "HEAD" and response.status == 404):
                raise self._failure(response, method, url)
            return _Opened(response)

    def _send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> urllib3.BaseHTTPResponse:
        left_s = self._left_s()
        timeout = urllib3.Timeout(connect=min(_CONNECT_S, left_s), read=min(_SILENCE_S, left_s))
        try:
            return self._pool(url).request(
                method,
                url,
                headers={"User-Agent": _CLIENT, **headers},
                body=body,
                timeout=timeout,
                retries=False,
                redirect=False,
                preload_content=False,
                decode_content=False,
            )
        except (HTTPError, OSError, ValueError) as err:
            raise self._broken(_words(err)) from None

    def _pool(self, url: str) -> urllib3.PoolManager:
        parts = urlsplit(url)
        context = None
        if parts.scheme == "https":
            context = _tls(self._config)
        hostname = parts.hostname or ""
        proxy = urllib.request.getproxies().get(parts.scheme)
        if proxy and not is_loopback(hostname) and not urllib.request.proxy_bypass(hostname):
            return urllib3.ProxyManager(proxy, ssl_context=context)
        return urllib3.PoolManager(ssl_context=context)

    def _chunks(self, response: urllib3.BaseHTTPResponse, max_bytes: int) -> Iterator[bytes]:
        """At most ``max_bytes``; more are refused, before any is read if the header says so."""
        declared = response.headers.get("Content-Length", "")
        if declared.isdecimal() and int(declared[:20]) > max_bytes:
            raise self._refuses(
                f"it wants to send {declared[:20]} bytes, and {max_bytes} are the most"
            )
        count = 0
        while True:
            self._left_s()
            try:
                chunk = response.read1(_CHUNK_BYTES)
            except (HTTPError, OSError, ValueError) as err:
                raise self._broken(_words(err)) from None
            if not chunk:
                return
            count += len(chunk)
            if count > max_bytes:
                raise self._refuses(f"it sent more than {max_bytes} bytes")
            yield chunk

    def _authorize(self, challenges: Sequence[str]) -> str:
        """The header that answers one of ``challenges``."""
        offered = dict(reversed([pair for text in challenges for pair in _challenges(text)]))
        login = self._login(self._reference.host)
        if "bearer" in offered:
            return self._token(offered["bearer"], login)
        if "basic" not in offered:
            raise self._refuses("it asks for a login in a way that is unknown here")
        if login is None or login.identity_token:
            raise self._refuses(
                "it asks for user and password",
                hint=f"docker login {self._reference.host}, as the user that runs this",
            )
        return login.basic

    def _token(self, challenge: Mapping[str, str], login: Login | None) -> str:
        realm = self._target(self.base, challenge.get("realm", ""), "its token service")
        asked = {"service": challenge.get("service", "")} if "service" in challenge else {}
        asked["scope"] = challenge.get("scope") or self._scope
        if login is not None and login.identity_token:
            form = {
                **asked,
                "grant_type": "refresh_token",
                "client_id": _CLIENT,
                "refresh_token": login.identity_token,
            }
            response = self._send(
                "POST",
                realm,
                {"Content-Type": "application/x-www-form-urlencoded"},
                urlencode(form).encode(),
            )
        else:
            url = f"{realm}{'&' if urlsplit(realm).query else '?'}{urlencode(asked)}"
            headers = {"Authorization": login.basic} if login is not None else {}
            response = self._send("GET", url, headers, None)
        with _Opened(response):
            if response.status in _PASSING:
                raise self._failure(response, "its token service", realm)
            if response.status != 200:
                has = "the login" if login else "anybody without a login"
                raise self._refuses(
                    f"its token service {_host(realm)} refuses {has}: status {response.status}",
                    hint=f"docker login {self._reference.host}, as the user that runs this",
                )
            data = b"".join(self._chunks(response, _MAX_TOKEN_BYTES))
        try:
            document = json.loads(data)
            token = document.get("token") or document.get("access_token")
        except (ValueError, AttributeError, RecursionError):
            token = None
        if not isinstance(token, str) or not _HEADER_SAFE.fullmatch(token):
            raise self._refuses(f"its token service {_host(realm)} gave no token")
        return f"Bearer {token}"

    def upload_target(self, location: str) -> str:
        """The address in an answer's Location. Raises :class:`ImageError`."""
        return self._target(self.base, location, "where to upload")

    def _target(self, source: str, location: str, what: str) -> str:
        """Where ``location``, as found at ``source``, leads, if we may go there."""
        try:
            target = urljoin(source, location)
            found = urlsplit(target)
            good = (
                found.scheme in ("http", "https")
                and found.hostname
                and found.username is None
                and found.port != 0
            )
        except ValueError:  # half an IPv6 address, or no port
            good = False
        if not location or not good:
            raise self._refuses(f"{what} is {location[:80]!r}, no address of HTTP")
        if found.scheme == "http" and (
            urlsplit(source).scheme == "https" or not self._may_be_plain(found.netloc)
        ):
            raise self._refuses(
                f"{what} leads to {found.netloc[:80]} over plain HTTP",
                hint="if nobody between can do harm, name it in registry.plain_http",
            )
        return target

    def _may_be_plain(self, host: str) -> bool:
        hostname = urlsplit(f"//{host}").hostname or ""
        named = (name.lower() for name in self._config.plain_http)
        return is_loopback(hostname) or host.lower() in named

    def _left_s(self) -> float:
        left_s = self._deadline_s - time.monotonic()
        if left_s <= 0:
            raise self._broken("it is too slow", hint="registry.timeout_s is how long it may take")
        return left_s

    def _failure(self, response: urllib3.BaseHTTPResponse, method: str, url: str) -> ImageError:
        """What an answer of failure means."""
        status = response.status
        after_s = _retry_after_s(response.headers.get("Retry-After", ""))
        said = self._said(response)
        what = f"{method} was answered with status {status}{f': {said}' if said else ''}"
        if status in _PASSING:
            wait = f", and to be asked again in {after_s:g} s" if after_s else ""
            return self._broken(what + wait, again_after_s=after_s)
        hint = ""
        if status in (401, 403):
            hint = f"docker login {self._reference.host}, as the user that runs this"
        elif status == 404:
            hint = "is it spelled right, and has it been pushed?"
        return self._refuses(what, hint=hint)

    def _said(self, response: urllib3.BaseHTTPResponse) -> str:
        """The registry's own words, shortened, if it has any."""
        try:
            with response:
                data = b"".join(self._chunks(response, _MAX_ERROR_BYTES))
            error = json.loads(data)["errors"][0]
            text = f"{error.get('code', '')} {error.get('message', '')}"
        except (
            ImageError,
            ValueError,
            KeyError,
            IndexError,
            TypeError,
            AttributeError,
            RecursionError,
        ):
            return ""
        return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:120]

    def _refuses(self, what: str, *, hint: str = "") -> ImageError:
        return ImageError(f"{self._reference}: {what}", hint=hint)

    def _broken(self, what: str, *, hint: str = "", again_after_s: float = 0.0) -> RegistryError:
        return RegistryError(f"{self._reference}: {what}", hint=hint, again_after_s=again_after_s)


class _Opened:
    """Closes a response's connection at the end: what it may still send is not waited for."""

    def __init__(self, response: urllib3.BaseHTTPResponse) -> None:
        self._response = response

    def __enter__(self) -> urllib3.BaseHTTPResponse:
        return self._response

    def __exit__(self, *error: object) -> None:
        self._response.close()


def _tls(config: RegistryConfig) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=config.ca_file and str(config.ca_file))
    except OSError as err:
        raise ImageError(f"registry.ca_file {config.ca_file}: {err.strerror or err}") from err


def _challenges(header: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Scheme in lower case and parameters of each challenge in a WWW-Authenticate header."""
    scheme, found = "", dict[str, str]()
    for name, value, new_scheme in _CHALLENGE.findall(header):
        if new_scheme:
            if scheme:
                yield scheme, found
            scheme, found = new_scheme.lower(), {}
        else:
            found[name.lower()] = re.sub(r"\\(.)", r"\1", value.strip('"'))
    if scheme:
        yield scheme, found


def _retry_after_s(value: str) -> float:
    """From seconds or a date; 0 when it is neither. No registry may ask for more than minutes."""
    if value.isdecimal():
        return min(float(value[:10]), _MAX_RETRY_AFTER_S)
    try:
        at_s = email.utils.parsedate_to_datetime(value).timestamp()
    except (ValueError, TypeError, OverflowError):
        return 0.0
    return min(max(0.0, at_s - time.time()), _MAX_RETRY_AFTER_S)


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    return (
        parts.scheme,
        parts.hostname or "",
        parts.port or (443 if parts.scheme == "https" else 80),
    )


def _host(url: str) -> str:
    return urlsplit(url).netloc[:80]


def _words(err: Any) -> str:
    """What a library says, without the memory addresses."""
    cause = getattr(err, "reason", None) or err
    text = re.sub(r"<[^>]*>:? ?", "", str(cause)) or type(cause).__name__
    return f"no answer: {text[:200]}"
