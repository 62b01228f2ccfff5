"""What a registry may do wrong, one fault each, and what is made of it."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from propeller_fl.config import RegistryConfig
from propeller_fl.errors import ImageError, RegistryError
from propeller_fl.oci import Blobs, Login, Pulled, Reference, Registry
from tests.oci.bad_server import (
    INDEX_TYPE,
    MANIFEST_TYPE,
    BadServer,
    Request,
    answer,
    bad_server,
    digest,
    endless,
    in_turn,
    manifest,
    only_with,
    status,
)

WASM = b"\0asm\1\0\0\0" + 1000 * b"x"
MAX_BYTES = 1 << 20
BLOB = f"/v2/lab/x/blobs/{digest(WASM)}"
MANIFEST = "/v2/lab/x/manifests/1"


@pytest.fixture
def server() -> Iterator[BadServer]:
    with bad_server() as running:
        running.serve_module(WASM)
        yield running


@pytest.fixture
def elsewhere() -> Iterator[BadServer]:
    with bad_server() as running:
        yield running


def pull(
    server: BadServer,
    directory: Path,
    *,
    login: Login | None = None,
    timeout_s: float = 60.0,
    version: str = ":1",
) -> Pulled:
    registry = Registry(
        RegistryConfig(timeout_s=timeout_s), Blobs(directory / "blobs"), login=lambda host: login
    )
    return registry.pull(Reference.parse(f"oci://{server.host}/lab/x{version}"), MAX_BYTES)


def kept(directory: Path) -> list[str]:
    """The names of the files that were kept, of which each is to be a digest."""
    path = directory / "blobs"
    return sorted(file.name for file in path.iterdir()) if path.exists() else []


def test_a_sound_image(server: BadServer, tmp_path: Path) -> None:
    assert pull(server, tmp_path).data == WASM
    assert hashlib.sha256(WASM).hexdigest() in kept(tmp_path)


def spoilt(data: bytes) -> bytes:
    return data[:-1] + b"?"


# --- the module


@pytest.mark.parametrize(
    ("data", "headers", "says", "passes"),
    [
        (spoilt(WASM), {}, "the module has the digest", False),
        (WASM[:-1], {}, f"sent {len(WASM) - 1} of {len(WASM)} bytes", True),
        (WASM[:-1], {"Content-Length": str(len(WASM))}, "no answer: .*1 more expected", True),
        (WASM + b"!", {}, f"{len(WASM)} are the most", False),
        (WASM, {"Content-Length": "9" * 30}, f"{len(WASM)} are the most", False),
        (WASM, {"Content-Length": "5"}, "sent 5 of", True),
    ],
    ids=["wrong digest", "short", "truncated", "long", "absurd length", "wrong length"],
)
def test_a_module_of_other_bytes(
    server: BadServer,
    tmp_path: Path,
    data: bytes,
    headers: dict[str, str],
    says: str,
    passes: bool,
) -> None:
    server.handlers[BLOB] = answer(data, headers)
    with pytest.raises(ImageError, match=says) as caught:
        pull(server, tmp_path)
    assert isinstance(caught.value, RegistryError) is passes
    assert len(kept(tmp_path)) == 1  # the manifest; nothing half or wrong beside it
    server.handlers[BLOB] = answer(WASM)
    assert pull(server, tmp_path).data == WASM


def test_a_module_without_end(server: BadServer, tmp_path: Path) -> None:
    server.handlers[BLOB] = endless(b"x" * 65_536, server.closing)
    with pytest.raises(ImageError, match=f"more than {len(WASM)} bytes"):
        pull(server, tmp_path)


def test_a_registry_that_is_too_slow(server: BadServer, tmp_path: Path) -> None:
    server.handlers[BLOB] = endless(b"x", server.closing, pause_s=0.05)
    with pytest.raises(RegistryError, match=r"too slow.*registry\.timeout_s"):
        pull(server, tmp_path, timeout_s=0.5)


def test_a_registry_that_says_nothing(server: BadServer, tmp_path: Path) -> None:
    def handle(request: Request) -> None:
        server.closing.wait()

    server.handlers[BLOB] = handle
    with pytest.raises(RegistryError, match=r"timed out|too slow"):
        pull(server, tmp_path, timeout_s=0.5)


def test_a_registry_that_is_not_there(server: BadServer, tmp_path: Path) -> None:
    server.close()
    with pytest.raises(RegistryError, match=r"lab/x:1.*refused"):
        pull(server, tmp_path)


def test_a_registry_that_speaks_no_http(server: BadServer, tmp_path: Path) -> None:
    def handle(request: Request) -> None:
        request.wfile.write(b"SSH-2.0-hello\r\n" * 9)
        request.close_connection = True

    server.handlers[MANIFEST] = handle
    with pytest.raises(RegistryError, match="no answer"):
        pull(server, tmp_path)


# --- the manifest


LAYER = {"mediaType": "application/wasm", "digest": digest(WASM), "size": len(WASM)}


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (b"{", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b'"text"', "schema version 2"),
        (manifest([LAYER], schemaVersion=1), "schema version 2"),
        (manifest([LAYER], mediaType="text/html"), "is of type 'text/html'"),
        (manifest([LAYER], manifests=[]), "not what its type"),
        (manifest([LAYER], mediaType=INDEX_TYPE), "not what its type"),
        (manifest([]) | {"layers": None}, "no list of entries"),
        (manifest([]), "0 layers are a Wasm module; there are none"),
        (manifest([LAYER, LAYER]), "2 layers are a Wasm module"),
        (manifest([LAYER | {"mediaType": "image/png"}]), "0 layers.*image/png.*client push"),
        (manifest([LAYER | {"size": -1}]), "no mediaType, sha256 digest and size"),
        (manifest([LAYER | {"size": 2**40}]), f"has {2**40} bytes"),
        (manifest([LAYER | {"digest": "sha512:ab"}]), "no mediaType, sha256 digest and size"),
        (manifest([LAYER | {"digest": "sha256:../../../x"}]), "no mediaType, sha256 digest"),
        (manifest([7]), "no mediaType, sha256 digest and size"),
    ],
)
def test_a_manifest_that_is_wrong(
    server: BadServer, tmp_path: Path, document: object, says: str
) -> None:
    server.serve_manifest(document)
    with pytest.raises(ImageError, match=says):
        pull(server, tmp_path)


@pytest.mark.parametrize(
    "layer",
    [
        {"mediaType": "application/vnd.wasm.content.layer.v1+wasm"},
        {
            "mediaType": "application/vnd.oci.image.layer.v1.tar",
            "annotations": {"org.opencontainers.image.title": "client.wasm"},
        },
    ],
)
def test_other_ways_to_push_a_module(
    server: BadServer, tmp_path: Path, layer: dict[str, object]
) -> None:
    server.serve_module(WASM, **layer)
    assert pull(server, tmp_path).data == WASM


def test_a_manifest_without_end(server: BadServer, tmp_path: Path) -> None:
    server.handlers[MANIFEST] = endless(b" " * 65_536, server.closing)
    with pytest.raises(ImageError, match="more than 4194304 bytes"):
        pull(server, tmp_path)


def test_a_manifest_that_is_not_what_its_header_says(server: BadServer, tmp_path: Path) -> None:
    server.handlers[MANIFEST] = answer(
        json.dumps(manifest([LAYER])).encode(),
        {"Content-Type": MANIFEST_TYPE, "Docker-Content-Digest": digest(b"")},
    )
    with pytest.raises(ImageError, match="the manifest has the digest"):
        pull(server, tmp_path)


def test_a_manifest_that_is_not_what_was_asked_for(server: BadServer, tmp_path: Path) -> None:
    wanted = digest(b"another")
    server.serve_manifest(manifest([LAYER]), version=wanted)
    with pytest.raises(ImageError, match="the manifest has the digest"):
        pull(server, tmp_path, version=f"@{wanted}")


# --- indexes


def entry(document: object, **platform: str) -> dict[str, object]:
    data = json.dumps(document).encode()
    return {
        "mediaType": MANIFEST_TYPE,
        "digest": digest(data),
        "size": len(data),
        "platform": platform,
    }


GOOD = manifest([LAYER])
WASM_ENTRY = entry(GOOD, architecture="wasm", os="wasip1")
LINUX_ENTRY = entry({"linux": 1}, architecture="amd64", os="linux")


def index(*entries: dict[str, object]) -> dict[str, object]:
    return {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": list(entries)}


@pytest.mark.parametrize(
    "chosen",
    [WASM_ENTRY, WASM_ENTRY | {"platform": {}, "artifactType": "application/vnd.wasm.module"}],
)
def test_the_entry_for_wasm_is_chosen(
    server: BadServer, tmp_path: Path, chosen: dict[str, object]
) -> None:
    server.serve_manifest(GOOD, version="unused")
    named = server.serve_manifest(index(LINUX_ENTRY, chosen), INDEX_TYPE)
    pulled = pull(server, tmp_path)
    assert (pulled.data, pulled.reference.version) == (WASM, named)


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (index(), "0 entries for wasm; it has none at all"),
        (index(LINUX_ENTRY), "0 entries for wasm; it has linux/amd64"),
        (index(entry(GOOD, architecture="wasm", os="wasip2")), "0 entries for wasm"),
        (index(WASM_ENTRY, WASM_ENTRY), "2 entries for wasm"),
        (index(WASM_ENTRY | {"mediaType": INDEX_TYPE}), "is an index again"),
    ],
)
def test_an_index_that_does_not_say_which(
    server: BadServer, tmp_path: Path, document: object, says: str
) -> None:
    server.serve_manifest(document, INDEX_TYPE)
    with pytest.raises(ImageError, match=says):
        pull(server, tmp_path)


def test_an_entry_that_is_an_index_after_all(server: BadServer, tmp_path: Path) -> None:
    inner = index(WASM_ENTRY)
    server.serve_manifest(inner, INDEX_TYPE, version="inner")
    server.serve_manifest(index(entry(inner, architecture="wasm")), INDEX_TYPE)
    with pytest.raises(ImageError, match="0 layers are a Wasm module"):
        pull(server, tmp_path)


# --- redirects


LOGIN = Login("someone", "secret")


def redirect(target: str) -> Callable[..., None]:
    return status(307, Location=target)


def test_a_redirect_is_followed_without_the_login(
    server: BadServer, elsewhere: BadServer, tmp_path: Path
) -> None:
    server.handlers[BLOB] = only_with(
        LOGIN.basic, 'Basic realm="x"', redirect(f"http://{elsewhere.host}/there?a=b")
    )
    elsewhere.handlers["/there"] = answer(WASM)
    assert pull(server, tmp_path, login=LOGIN).data == WASM
    assert elsewhere.seen == [("/there?a=b", "")]
    assert (BLOB, LOGIN.basic) in server.seen


def test_a_host_that_was_redirected_to_gets_no_login_for_asking(
    server: BadServer, elsewhere: BadServer, tmp_path: Path
) -> None:
    server.handlers[BLOB] = redirect(f"http://{elsewhere.host}/there")
    elsewhere.handlers["/there"] = status(401, WWW_Authenticate='Basic realm="mine"')
    with pytest.raises(ImageError, match="401"):
        pull(server, tmp_path, login=LOGIN)
    assert elsewhere.seen == [("/there", "")]


@pytest.mark.parametrize(
    ("target", "says"),
    [
        (BLOB, "redirected more than 5 times"),
        ("http://198.51.100.7/x", r"198\.51\.100\.7 over plain HTTP.*registry\.plain_http"),
        ("file:///etc/passwd", "no address of HTTP"),
        ("http://user:password@127.0.0.1/", "no address of HTTP"),
        ("http://[::1", "no address of HTTP"),
        ("http://127.0.0.1:99999/", "no address of HTTP"),
        ("", "no address of HTTP"),
    ],
)
def test_a_redirect_that_is_not_followed(
    server: BadServer, tmp_path: Path, target: str, says: str
) -> None:
    server.handlers[BLOB] = redirect(target)
    with pytest.raises(ImageError, match=says):
        pull(server, tmp_path)


def test_plain_http_is_not_spoken_with_strangers(tmp_path: Path) -> None:
    """Nothing listens there; what matters is that TLS is what is tried."""
    config = RegistryConfig(timeout_s=0.2)
    registry = Registry(config, Blobs(tmp_path), login=lambda host: None)
    with pytest.raises(ImageError):
        registry.pull(Reference.parse("oci://0.0.0.0:1/lab/x:1"), MAX_BYTES)


# --- logins


def challenge(server: BadServer) -> str:
    return f'Bearer realm="http://{server.host}/token",service="here",scope="repository:lab/x:pull"'


def behind_a_token(server: BadServer, token: str = "t0ken") -> None:
    for path in (MANIFEST, BLOB):
        server.handlers[path] = only_with(
            f"Bearer {token}", challenge(server), server.handlers[path]
        )


def test_a_token_for_anybody(server: BadServer, tmp_path: Path) -> None:
    behind_a_token(server)
    server.handlers["/token"] = answer(b'{"token":"t0ken"}')
    assert pull(server, tmp_path).data == WASM
    asked = [seen for seen in server.seen if seen[0].startswith("/token")]
    assert asked == [("/token?service=here&scope=repository%3Alab%2Fx%3Apull", "")]


def test_a_token_for_a_login(server: BadServer, tmp_path: Path) -> None:
    behind_a_token(server)
    server.handlers["/token"] = only_with(LOGIN.basic, "", answer(b'{"access_token":"t0ken"}'))
    assert pull(server, tmp_path, login=LOGIN).data == WASM


def test_a_token_for_an_identity_token(server: BadServer, tmp_path: Path) -> None:
    forms: list[bytes] = []

    def handle(request: Request) -> None:
        forms.append(request.rfile.read(int(request.headers["Content-Length"])))
        del request.headers["Content-Length"]  # there is no more to read
        answer(b'{"access_token":"t0ken"}')(request)

    behind_a_token(server)
    server.handlers["/token"] = handle
    assert pull(server, tmp_path, login=Login(identity_token="refresh me")).data == WASM
    assert b"grant_type=refresh_token" in forms[0]
    assert b"refresh_token=refresh+me" in forms[0]


@pytest.mark.parametrize(
    ("handler", "says"),
    [
        (status(401), "refuses the login: status 401.*docker login"),
        (status(403), "refuses the login: status 403"),
        (status(302, Location="http://127.0.0.1/"), "refuses the login: status 302"),
        (answer(b"{}"), "gave no token"),
        (answer(b"{"), "gave no token"),
        (answer(b"[]"), "gave no token"),
        (answer(b'{"token":7}'), "gave no token"),
        (answer(b'{"token":"a\\r\\nX-Evil: 1"}'), "gave no token"),
        (answer(b"x" * 2_000_000), "bytes"),
        (status(503), "503"),
        (answer(b'{"token":"another"}'), r"401.*docker login"),
    ],
)
def test_a_token_service_that_fails(
    server: BadServer, tmp_path: Path, handler: Callable[..., None], says: str
) -> None:
    behind_a_token(server)
    server.handlers["/token"] = handler
    with pytest.raises(ImageError, match=says) as caught:
        pull(server, tmp_path, login=LOGIN)
    assert "secret" not in str(caught.value)
    assert len(server.seen) <= 3  # it does not ask again and again


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ('Bearer realm="http://198.51.100.7/token"', "token service leads to .* over plain HTTP"),
        ('Bearer service="x"', "no address of HTTP"),
        ("Negotiate", "unknown here"),
        ("", "unknown here"),
    ],
)
def test_a_challenge_that_is_not_answered(
    server: BadServer, tmp_path: Path, header: str, says: str
) -> None:
    server.handlers[MANIFEST] = status(401, WWW_Authenticate=header)
    with pytest.raises(ImageError, match=says):
        pull(server, tmp_path, login=LOGIN)


def test_a_401_after_every_login(server: BadServer, tmp_path: Path) -> None:
    server.handlers[MANIFEST] = status(401, WWW_Authenticate='Basic realm="x"')
    with pytest.raises(ImageError, match=r"401.*docker login"):
        pull(server, tmp_path, login=LOGIN)
    assert len(server.seen) == 2


# --- trouble that passes


@pytest.mark.parametrize(
    ("trouble", "after_s"),
    [
        (status(429, Retry_After="7"), 7.0),
        (status(503, Retry_After="999999999999"), 300.0),
        (status(503, Retry_After="Thu, 01 Jan 1970 00:00:00 GMT"), 0.0),
        (status(503, Retry_After="soon"), 0.0),
        (status(500), 0.0),
    ],
)
def test_trouble_that_passes(
    server: BadServer, tmp_path: Path, trouble: Callable[..., None], after_s: float
) -> None:
    server.handlers[MANIFEST] = in_turn(trouble, server.handlers[MANIFEST])
    with pytest.raises(RegistryError) as caught:
        pull(server, tmp_path)
    assert caught.value.again_after_s == after_s
    assert pull(server, tmp_path).data == WASM


def test_the_registrys_own_words_are_shown_in_one_line(server: BadServer, tmp_path: Path) -> None:
    said = {"errors": [{"code": "DENIED", "message": "no\x1b[2J\nmore " + 1000 * "x"}]}
    server.handlers[MANIFEST] = answer(json.dumps(said).encode(), code=403)
    with pytest.raises(ImageError, match=r"403: DENIED no \[2J more xx") as caught:
        pull(server, tmp_path)
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 400


# --- push


def test_an_upload_elsewhere_takes_no_login_along(
    server: BadServer, elsewhere: BadServer, tmp_path: Path
) -> None:
    config = b'{"architecture":"wasm","layerDigests":["%s"],"os":"wasip1"}' % digest(WASM).encode()
    begun = status(202, Location=f"http://{elsewhere.host}/put")
    guarded = only_with(LOGIN.basic, 'Basic realm="x"', begun)
    server.handlers["/v2/lab/x/blobs/uploads/"] = guarded
    server.handlers[BLOB] = status(404)
    server.handlers[f"/v2/lab/x/blobs/{digest(config)}"] = status(200)
    server.handlers["/v2/lab/x/manifests/1"] = only_with(LOGIN.basic, "Basic", status(201))
    elsewhere.handlers["/put"] = status(201)
    registry = Registry(RegistryConfig(), Blobs(tmp_path), login=lambda host: LOGIN)
    registry.push(Reference.parse(f"oci://{server.host}/lab/x:1"), WASM, {})
    assert elsewhere.seen == [(f"/put?digest={digest(WASM)}", "")]


def test_a_registry_that_stored_something_else(server: BadServer, tmp_path: Path) -> None:
    server.handlers[BLOB] = status(200)
    registry = Registry(RegistryConfig(), Blobs(tmp_path), login=lambda host: None)
    server.handlers["/v2/lab/x/blobs/uploads/"] = status(202, Location="/put")
    server.handlers["/put"] = status(201)
    server.handlers[MANIFEST] = status(201, Docker_Content_Digest=digest(b""))
    with pytest.raises(ImageError, match=r"answered with status 201 and digest sha256:e3b0"):
        registry.push(Reference.parse(f"oci://{server.host}/lab/x:1"), WASM, {})


def test_a_login_is_never_shown() -> None:
    assert "secret" not in repr(LOGIN)
    assert base64.b64encode(b"someone:secret").decode() not in repr(LOGIN)
