"""`propeller-fl model …`"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import click

from propeller_fl.cli._context import (
    Context,
    as_json,
    fails_clearly,
    pass_context,
    print_json,
    print_table,
)
from propeller_fl.errors import MessageError, RequestError
from propeller_fl.store import ModelFormat, convert, read_model_file
from propeller_fl.wire import (
    MAX_VERSION,
    Format,
    Model,
    format_of,
    model_uri,
    shapes_of,
    size_of,
)


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
    rows = [
        {
            "version": version,
            "topic": model_uri(version),
            "size_bytes": len(body),
            "format": format_of(body),
            "sha256": hashlib.sha256(body).hexdigest(),
        }
        for version, body in versions.items()
    ]
    if as_json:
        print_json(rows)
    else:
        columns = ["version", "topic", "size_bytes", "format", "sha256"]
        print_table(columns, [list(row.values()) for row in rows])


@group.command()
@click.argument("version", type=click.IntRange(min=0))
@as_json
@pass_context
@fails_clearly
def show(context: Context, version: int, as_json: bool) -> None:
    """The tensors of a model: names, shapes, range."""
    with context.operator() as operator:
        model, body = operator.model(model_uri(version))
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
    """Fetch a model."""
    with context.operator() as operator:
        _, body = operator.model(model_uri(version))
    data = convert(body, ModelFormat(form)) if form else body
    if output is None:
        sys.stdout.buffer.write(data)
    else:
        output.write_bytes(data)


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

    A version inside the file is not looked at.
    """
    data = file.read_bytes()
    try:
        model = read_model_file(data)
    except MessageError as err:
        raise RequestError(f"{file} holds no model: {err.args[0]}", hint=err.hint) from err
    wanted = Format(form) if form else Format.JSON if data[:1] == b"{" else Format.CBOR
    with context.operator() as operator:
        known = operator.model_versions()
        if version is None:
            version = max(known, default=-1) + 1
        elif version in known:
            raise RequestError(
                f"version {version} exists",
                hint="a version is never used twice: leave --version out for the next one",
            )
        document = Model(model.tensors, version).encode(wanted)
        operator.put_model(version, document)
    click.echo(f"{model_uri(version)}: {len(document)} bytes as {wanted}")
