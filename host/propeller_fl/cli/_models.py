"""`propeller-fl model …`"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from propeller_fl.access import AccessRole
from propeller_fl.cli._context import (
    Context,
    as_json,
    fails_clearly,
    pass_context,
    print_json,
    print_table,
)
from propeller_fl.errors import MessageError, RequestError
from propeller_fl.operator import Operator
from propeller_fl.store import (
    ModelFormat,
    convert,
    is_document,
    manifest_of_file,
    read_model_file,
    shapes_in_file,
    tensor_bytes,
    write_large,
)
from propeller_fl.wire import (
    MAX_VERSION,
    Format,
    Manifest,
    Model,
    format_of,
    model_uri,
    shapes_of,
    size_of,
)

_log = logging.getLogger(__name__)


@click.group("model")
def group() -> None:
    """Look at global models, fetch and publish them."""


@group.command("list")
@as_json
@pass_context
@fails_clearly
def list_(context: Context, as_json: bool) -> None:
    """Every global model the broker holds."""
    with context.operator() as operator:
        versions = operator.model_versions()
    rows = [_row(version, body) for version, body in versions.items()]
    if as_json:
        print_json(rows)
    else:
        columns = ["version", "topic", "size_bytes", "format", "sha256"]
        print_table(columns, [list(row.values()) for row in rows])


def _row(version: int, body: bytes) -> dict[str, Any]:
    manifest = _manifest(body)
    return {
        "version": version,
        "topic": model_uri(version),
        "size_bytes": len(body) if manifest is None else manifest.size_bytes,
        "format": str(format_of(body) if manifest is None else ModelFormat.SAFETENSORS),
        "sha256": hashlib.sha256(body).hexdigest(),
    }


def _manifest(body: bytes) -> Manifest | None:
    """Of a large model; None for one that is a document, or cannot be read at all."""
    try:
        return Manifest.decode(body)
    except MessageError:
        return None


@group.command()
@click.argument("version", type=click.IntRange(min=0))
@as_json
@pass_context
@fails_clearly
def show(context: Context, version: int, as_json: bool) -> None:
    """The tensors of a model: names, shapes, range."""
    with context.operator() as operator:
        body = operator.document(model_uri(version))
    manifest = _manifest(body)
    if manifest is not None:
        _show_large(manifest, as_json)
        return
    model = Model.decode(body)
    rows = [
        {
            "tensor": name,
            "shape": list(array.shape),
            "min": float(array.min()) if array.size else None,
            "max": float(array.max()) if array.size else None,
        }
        for name, array in model.tensors.items()
    ]
    if as_json:
        print_json({"version": model.version, "size_bytes": len(body), "tensors": rows})
        return
    click.echo(
        f"{model_uri(version)}: {size_of(shapes_of(model.tensors))} parameters, {len(body)} bytes"
    )
    print_table(["tensor", "shape", "min", "max"], [list(row.values()) for row in rows])


def _show_large(manifest: Manifest, as_json: bool) -> None:
    """What its manifest says; the numbers stay where they are."""
    rows = [
        {"tensor": name, "shape": list(shape), "min": None, "max": None}
        for name, shape in manifest.shapes.items()
    ]
    size_bytes, parts = manifest.size_bytes, len(manifest.parts)
    if as_json:
        print_json({"version": manifest.version, "size_bytes": size_bytes, "tensors": rows})
        return
    click.echo(
        f"{model_uri(manifest.version)}: {size_of(manifest.shapes)} parameters, "
        f"{size_bytes} bytes in {parts} parts"
    )
    print_table(["tensor", "shape"], [[row["tensor"], row["shape"]] for row in rows])


@group.command()
@click.argument("version", type=click.IntRange(min=0))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Default: standard output.")
@click.option(
    "--format",
    "form",
    type=click.Choice([str(form) for form in ModelFormat]),
    help="Default: as it was published.",
)
@pass_context
@fails_clearly
def get(context: Context, version: int, output: Path | None, form: str | None) -> None:
    """Fetch a model.

    A large one comes in parts, into OUTPUT.part, and goes on from there when it broke off.
    """
    with context.operator() as operator:
        body = operator.document(model_uri(version))
        manifest = _manifest(body)
        if manifest is not None:
            _get_large(operator, manifest, output, ModelFormat(form or ModelFormat.SAFETENSORS))
            return
    data = convert(body, ModelFormat(form)) if form else body
    if output is None:
        sys.stdout.buffer.write(data)
    else:
        output.write_bytes(data)


def _get_large(
    operator: Operator, manifest: Manifest, output: Path | None, form: ModelFormat
) -> None:
    if output is None:
        raise RequestError(
            f"model {manifest.version} has {manifest.size_bytes} bytes and comes in parts",
            hint="name a file for it with --output",
        )
    part = output.with_name(f"{output.name}.part")
    operator.fetch(manifest, part)
    if form is not ModelFormat.SAFETENSORS:
        document = Model(read_model_file(part.read_bytes()).tensors, manifest.version)
        output.write_bytes(convert(document.encode(Format.CBOR), form))
        part.unlink()
    else:
        part.rename(output)


@group.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--version", type=click.IntRange(0, MAX_VERSION), help="Default: after the highest there is."
)
@click.option(
    "--format",
    "form",
    type=click.Choice([str(form) for form in Format]),
    help="How it is published. Default: cbor, but json for a JSON file.",
)
@pass_context
@fails_clearly
def put(context: Context, file: Path, version: int | None, form: str | None) -> None:
    """Publish FILE (safetensors, npz, JSON or CBOR) as a global model.

    A version inside the file is not looked at. A model of more than large.above_bytes is sent in
    parts; the command has to stay until it is published.
    """
    settings = context.settings()
    with contextlib.ExitStack() as stack:
        content = _large_content(file, settings.large.above_bytes, stack)
        document = None if content else _read(file)
        operator = stack.enter_context(context.operator(AccessRole.PUBLISHER))
        known = operator.model_versions()
        if version is None:
            version = max(known, default=-1) + 1
        elif version in known:
            raise RequestError(
                f"version {version} exists",
                hint="a version is never used twice: leave --version out for the next one",
            )
        if content is not None:
            manifest = manifest_of_file(content, version, settings.large.part_bytes)
            operator.put_large(manifest, content)
            click.echo(
                f"{model_uri(version)}: {manifest.size_bytes} bytes in {len(manifest.parts)} parts"
            )
            return
        assert document is not None  # one of the two
        model, is_json = document
        wanted = Format(form) if form else Format.JSON if is_json else Format.CBOR
        data = Model(model.tensors, version).encode(wanted)
        operator.put_model(version, data)
    click.echo(f"{model_uri(version)}: {len(data)} bytes as {wanted}")


def _read(file: Path) -> tuple[Model, bool]:
    """A model, and whether it is written in JSON."""
    data = file.read_bytes()
    try:
        return read_model_file(data), data[:1] == b"{"
    except MessageError as err:
        raise RequestError(f"{file} holds no model: {err.args[0]}", hint=err.hint) from err


def _large_content(file: Path, above_bytes: int, stack: contextlib.ExitStack) -> Path | None:
    """A safetensors file of float32 to be sent in parts, if the model is as large as that: FILE
    itself if it is one, else another."""
    if file.stat().st_size <= above_bytes:
        return None
    with file.open("rb") as opened:
        is_tensor_file = not is_document(head := opened.read(9)) and head[:2] != b"PK"
    try:
        if is_tensor_file and tensor_bytes(shapes_in_file(file)) > above_bytes:
            return file
    except MessageError as err:
        _log.debug("%s is converted: %s", file, err)
    model, _ = _read(file)
    if tensor_bytes(shapes_of(model.tensors)) <= above_bytes:
        return None
    directory = stack.enter_context(tempfile.TemporaryDirectory())
    content = Path(directory) / "model.safetensors"
    write_large(model, content)
    return content
