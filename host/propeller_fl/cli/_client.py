"""`propeller-fl client …`"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from propeller_fl.cli._context import (
    Context,
    as_json,
    fails_clearly,
    pass_context,
    print_json,
)
from propeller_fl.client import build_module
from propeller_fl.manager import ImageLibrary
from propeller_fl.proplet import Invocation, Limits, WasmtimeRuntime, check_module

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
    image = ImageLibrary(context.settings().manager.images).fetch(module).data
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
    image = ImageLibrary(settings.manager.images).fetch(module).data
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
