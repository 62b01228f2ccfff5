"""`propeller-fl doctor`"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import click

from propeller_fl import firmware
from propeller_fl.access import AccessRole
from propeller_fl.cli._context import (
    Context,
    as_json,
    fails_clearly,
    pass_context,
    print_json,
    quiet_links,
)
from propeller_fl.cli._round_store import open_rounds
from propeller_fl.cli._round_story import stamp
from propeller_fl.config import Settings
from propeller_fl.database_url import rounds_place
from propeller_fl.errors import DamagedStoreError, PropellerError, StoreError
from propeller_fl.learn import sum_in_c
from propeller_fl.link import Finding, probe_broker
from propeller_fl.log import printable
from propeller_fl.login import login
from propeller_fl.store import (
    check_experiments,
    check_launches,
    check_models,
    check_rounds,
    check_update_files,
    made_models,
)

_STORES: Final[tuple[tuple[str, str, Callable[[Path], str]], ...]] = (
    ("coordinator", "rounds.db", check_rounds),
    ("manager", "launches.db", check_launches),
    ("experiments", "experiments.db", check_experiments),
)


@click.command()
@click.option("--stores-only", is_flag=True, help="Look at databases and models alone.")
@as_json
@pass_context
@fails_clearly
def doctor(context: Context, stores_only: bool, as_json: bool) -> None:
    """Look at the broker, the stores, the models and what building firmware needs; say what to
    mend.

    It may be run beside the services and changes nothing. Status 1 when something is broken;
    warnings and what only firmware needs do not count.
    """
    quiet_links()
    settings = context.settings()
    findings = list(_stores(settings) if stores_only else _all(settings))
    if as_json:
        print_json(
            [
                {"level": f.level, "subject": f.subject, "detail": f.detail, "hint": f.hint}
                for f in findings
            ]
        )
    else:
        for finding in findings:
            hint = f" → {finding.hint}" if finding.hint else ""
            line = f"{finding.level:<8}{finding.subject}: {finding.detail}{hint}"
            click.echo(printable(line))
    sys.exit(1 if any(finding.level == "error" for finding in findings) else 0)


def _all(settings: Settings) -> Iterator[Finding]:
    prefix = f"{settings.topic_prefix}/" if settings.topic_prefix else ""
    yield from probe_broker(login(settings, AccessRole.OPERATOR), topic_prefix=prefix)
    yield from _stores(settings)
    if sum_in_c():
        yield Finding("ok", "averages", "summed by the loop in C")
    else:
        hint = "pip install propeller-fl anew; its output says why the loop was not built"
        yield Finding("warning", "averages", "summed in numpy, same bits and 3 times slower", hint)
    lacking = firmware.missing()
    if not lacking:
        yield Finding("ok", "firmware", "a Zephyr workspace is at hand")
    for missing in lacking:
        yield Finding("warning", "firmware", f"lacks {missing.what}", missing.remedy)


def _stores(settings: Settings) -> Iterator[Finding]:
    for service, name, check in _STORES:
        if service == "coordinator" and settings.coordinator.database_url:
            yield from _database(settings)
            continue
        path = settings.data_dir / service / name
        try:
            there = path.exists()
            yield Finding("ok", service, check(path) if there else f"no store yet at {path}")
        except PropellerError as err:
            yield _error(service, err)
        except OSError as err:
            yield Finding("error", service, f"{path} cannot be read: {err.strerror}")
    yield from _update_files(settings)
    yield from _models(settings)


def _database(settings: Settings) -> Iterator[Finding]:
    try:
        with closing(open_rounds(settings)) as store:
            leader = store.last_leader()
    except PropellerError as err:
        yield _error("coordinator", err)
        return
    place = rounds_place(settings)
    if leader is None:
        yield Finding("warning", "coordinator", f"{place} answers, and nobody has led there yet")
    else:
        name, since_s = leader
        since = stamp(since_s)
        yield Finding(
            "ok", "coordinator", f"{place} answers; the last to lead, since {since}: {name}"
        )


def _update_files(settings: Settings) -> Iterator[Finding]:
    directory = settings.data_dir / "coordinator"
    database = directory / "rounds.db"
    try:
        if not database.exists():
            return
        report = check_update_files(database, directory / "large")
    except (PropellerError, OSError):
        return  # the database has a finding of its own
    for file in report.gone:
        hint = "the round fails, or the model cannot be had from here: start it again"
        yield Finding("error", "update files", f"{file} is gone", hint)
    if report.leftovers:
        yield Finding(
            "warning",
            "update files",
            f"{len(report.leftovers)} are left of rounds that have ended: {report.leftovers[0]}",
            "the coordinator removes them when it is done with them, or when it starts",
        )
    if report.files and not report.gone:
        yield Finding("ok", "update files", f"{report.files} in {directory / 'large'}")


def _models(settings: Settings) -> Iterator[Finding]:
    directory = settings.model_server.models_dir
    if not directory.exists():
        yield Finding("ok", "models", f"none yet at {directory}")
        return
    rounds = rounds_place(settings)
    try:
        made = made_models(rounds) if isinstance(rounds, Path) and rounds.exists() else {}
    except (StoreError, DamagedStoreError):
        made = {}  # it has a finding of its own
    try:
        report = check_models(directory, made)
    except StoreError as err:
        yield _error("models", err)
        return
    for detail, hint in report.faults:
        yield Finding("error", "models", detail, hint)
    for detail, hint in report.notes:
        yield Finding("warning", "models", detail, hint)
    if not report.faults:
        yield Finding("ok", "models", f"{directory} is sound: {report.models} models")


def _error(subject: str, err: PropellerError) -> Finding:
    return Finding("error", subject, str(err.args[0]), err.hint)
