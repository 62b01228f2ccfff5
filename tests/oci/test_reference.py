"""What names an image, and what does not."""

from __future__ import annotations

import pytest

from propeller_fl.errors import ImageError
from propeller_fl.oci import Reference

DIGEST = 64 * "a"


@pytest.mark.parametrize(
    ("text", "host", "name", "version"),
    [
        ("oci://registry.lan/x", "registry.lan", "x", "latest"),
        ("oci://Registry.lan:5000/a/b_c/d-e:v1.2", "registry.lan:5000", "a/b_c/d-e", "v1.2"),
        (f"oci://r.lan/x@sha256:{DIGEST}", "r.lan", "x", f"sha256:{DIGEST}"),
        (f"oci://r.lan/x:v1@sha256:{DIGEST}", "r.lan", "x", f"sha256:{DIGEST}"),
        ("oci://[::1]:5000/x:1", "[::1]:5000", "x", "1"),
    ],
)
def test_parts(text: str, host: str, name: str, version: str) -> None:
    found = Reference.parse(text)
    assert (found.host, found.name, found.version) == (host, name, version)
    assert Reference.parse(str(found)).version == version


@pytest.mark.parametrize(
    "text",
    [
        "oci://",
        "oci://a",
        "oci:///x",
        "oci://r.lan/X",
        "oci://r.lan/../x",
        "oci://r.lan/x/",
        "oci://user:password@r.lan/x",
        "oci://r.lan/x:",
        "oci://r.lan/x?y",
        "oci://r.lan/x@sha256:abc",
        f"oci://r.lan/x@md5:{DIGEST}",
        "oci://r.lan/x:a\n",
        "oci://r.lan/" + 2000 * "x",
    ],
)
def test_what_is_no_reference(text: str) -> None:
    with pytest.raises(ImageError, match=r"no reference.*oci://host"):
        Reference.parse(text)


@pytest.mark.parametrize("host", ["example", "nowhere.example", "a.invalid:5000"])
def test_names_kept_for_examples(host: str) -> None:
    with pytest.raises(ImageError, match=r"is an example.*\[manager\] images"):
        Reference.parse(f"oci://{host}/x:1")
