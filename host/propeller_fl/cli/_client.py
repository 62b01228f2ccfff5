"""`propeller-fl client …`"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import click

from propeller_fl.cli._context import (
    Context,
    as_json,
    fails_clearly,
    pass_context,
    print_json,
)
from propeller_fl.client import build_module
from propeller_fl.deployment import image_library, images_dir, signatures_dir
from propeller_fl.errors import RegistryError, SignatureError
from propeller_fl.log import printable
from propeller_fl.oci import ANNOTATION, Blobs, Reference, Registry
from propeller_fl.proplet import Invocation, Limits, WasmtimeRuntime, check_module
from propeller_fl.signing import (
    PrivateKey,
    PublicKey,
    TrustedKeys,
    annotation,
    read_signature_file,
    signature_path,
    signed_message,
    write_signature_file,
)
from propeller_fl.wire import MAX_SIGNATURES

_T = TypeVar("_T")

_TRIES: Final = 4  # of a transfer
_FIRST_WAIT_S: Final = 0.5  # doubles
_LONGEST_WAIT_S: Final = 60.0
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group("client")
def group() -> None:
    """Build, check and try the Wasm module that trains."""


@group.command()
@click.argument("source", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
@fails_clearly
def build(source: Path, output: Path) -> None:
    """Build the C client in the directory SOURCE (needs `pip install propeller-fl[client]`)."""
    built = build_module(source, output)
    click.echo(f"{built.path}: {built.size_bytes} bytes, sha256 {built.sha256}")


@group.command()
@click.argument("module")
@as_json
@pass_context
@fails_clearly
def check(context: Context, module: str, as_json: bool) -> None:
    """Say whether MODULE (a file, builtin:softmax, …) keeps the client contract.

    Status 0 when it does.
    """
    image = image_library(context.settings()).fetch(module).data
    report = check_module(image)
    if as_json:
        findings = [
            {"level": f.level, "code": f.code, "message": f.message} for f in report.findings
        ]
        print_json({"ok": report.ok, "sha256": report.sha256, "findings": findings})
    else:
        for finding in report.findings:
            click.echo(f"{finding.level}: {finding.message}")
        verdict = "keeps the contract" if report.ok else "breaks the contract"
        click.echo(f"{module}: {verdict}")
    sys.exit(0 if report.ok else 1)


@group.command()
@click.argument("module")
@click.argument("reference")
@pass_context
@fails_clearly
def push(context: Context, module: str, reference: str) -> None:
    """Store MODULE (a file, builtin:softmax, …) in a registry under REFERENCE, oci://host/name:tag.

    Its signatures go along. Prints the reference by digest, which stands for these bytes for ever.
    Logins are Docker's.
    """
    settings = context.settings()
    image = image_library(settings).fetch(module)
    tag = Reference.parse(reference)
    registry = Registry(settings.registry, Blobs(images_dir(settings)))
    annotations = {ANNOTATION: annotation(image.signatures)} if image.signatures else {}
    click.echo(str(_patiently(lambda: registry.push(tag, image.data, annotations))))


@group.command()
@click.argument("reference")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
@pass_context
@fails_clearly
def pull(context: Context, reference: str, output: Path) -> None:
    """Fetch the module at REFERENCE (oci://host/name:tag or …@sha256:…) into a file.

    Its signatures, if there are any, are written beside it. Prints the reference by digest, which
    stands for these bytes for ever.
    """
    library = image_library(context.settings())
    image = _patiently(lambda: library.fetch(reference))
    output.write_bytes(image.data)
    if image.signatures:
        write_signature_file(signature_path(output), image.sha256, image.signatures)
    click.echo(image.pinned or reference)


@group.command()
@click.argument("key", type=click.Path(path_type=Path))
@fails_clearly
def keygen(key: Path) -> None:
    """Make a pair of keys: KEY, which signs modules and is yours alone, and KEY.pub."""
    made = PrivateKey.generate()
    made.save(key)
    click.echo(f"{key}: key {made.public.key_id}; give {key}.pub to those who are to trust it")


@group.command()
@click.argument("module")
@click.option("--key", type=_FILE, required=True, help="What `client keygen` made.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Instead of MODULE.sig.")
@pass_context
@fails_clearly
def sign(context: Context, module: str, key: Path, output: Path | None) -> None:
    """Sign MODULE, so that proplets which trust the key run it.

    The signature of a file goes into FILE.sig beside it; that of another module (builtin:softmax,
    oci://…) to where the manager of this data directory looks for it. What other keys signed stays.
    """
    settings = context.settings()
    private = PrivateKey.read(key)
    image = image_library(settings).fetch(module)
    if output is None:
        is_file = Path(module).is_file()
        output = (
            signature_path(Path(module))
            if is_file
            else signatures_dir(settings) / f"{image.sha256}.sig"
        )
    try:
        others = read_signature_file(output, image.sha256)
    except SignatureError as err:  # of what it was before it was rebuilt
        click.echo(f"{printable(str(err))}: replaced", err=True)
        others = {}
    own = {private.public.key_id: private.sign(signed_message(image.sha256))}
    if len(others | own) > MAX_SIGNATURES:
        raise SignatureError(f"{output} has {len(others)} signatures", hint="take some out")
    write_signature_file(output, image.sha256, others | own)
    click.echo(f"{output}: sha256 {image.sha256} signed by key {private.public.key_id}")


@group.command()
@click.argument("keyfile", type=_FILE, required=False)
@click.option("--list", "show", is_flag=True, help="Print the ids of the keys that are trusted.")
@click.option("--remove", metavar="ID", help="Trust that key no more.")
@pass_context
@fails_clearly
def trust(context: Context, keyfile: Path | None, show: bool, remove: str | None) -> None:
    """Let proplets of this data directory run modules signed by KEYFILE's key (a .pub file).

    Where proplet.require_signature is set, they run no others.
    """
    if sum((keyfile is not None, show, remove is not None)) != 1:
        raise click.UsageError("give one of KEYFILE, --list and --remove")
    trusted = TrustedKeys(context.settings().trusted_keys)
    if keyfile is not None:
        key = PublicKey.read(keyfile)
        trusted.add(key)
        click.echo(f"key {key.key_id} is trusted")
    elif remove is not None:
        trusted.remove(remove)
        click.echo(f"key {remove} is trusted no more")
    else:
        for key in trusted.known():
            click.echo(key.key_id)


def _patiently(transfer: Callable[[], _T]) -> _T:
    """Again, a few times, when a registry asks for that or cannot be reached."""
    wait_s = _FIRST_WAIT_S
    for left in range(_TRIES - 1, -1, -1):
        try:
            return transfer()
        except RegistryError as err:
            wait_s = max(wait_s, err.again_after_s)
            if left == 0 or wait_s > _LONGEST_WAIT_S:
                raise
            click.echo(f"{printable(str(err))}; again in {wait_s:g} s", err=True)
            time.sleep(wait_s)
            wait_s *= 2
    raise AssertionError("the last try returns or raises")


@group.command()
@click.argument("module")
@click.option("--model", type=_FILE, help="What it finds as /fl/model.")
@click.option("--data", type=_FILE, help="What it finds as /fl/data.")
@click.option("--env", "variables", multiple=True, metavar="NAME=VALUE", help="May be repeated.")
@click.option("--timeout-s", type=float, default=60.0, show_default=True)
@pass_context
@fails_clearly
def run(
    context: Context,
    module: str,
    model: Path | None,
    data: Path | None,
    variables: tuple[str, ...],
    timeout_s: float,
) -> None:
    """Run MODULE once, as a proplet would; its update goes to standard output."""
    settings = context.settings()
    image = image_library(settings).fetch(module).data
    env = {"ROUND_ID": "r-0", "MODEL_URI": "fl/models/global_model_v0", "HYPERPARAMS": "{}"}
    for variable in variables:
        name, equals, value = variable.partition("=")
        if not equals:
            raise click.UsageError(f"--env {variable!r} has no =")
        env[name] = value
    files = {name: path for name, path in (("model", model), ("data", data)) if path}
    with WasmtimeRuntime(settings.data_dir / "compiled") as runtime:
        limits = Limits(wall_time_s=timeout_s)
        result = runtime.run(runtime.compile(image), Invocation(env, files), limits)
    sys.stdout.buffer.write(result.stdout)
    sys.stderr.write(result.stderr)
