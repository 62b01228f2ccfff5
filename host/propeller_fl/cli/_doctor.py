"""`propeller-fl doctor`"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

from propeller_fl import firmware
from propeller_fl.cli._context import Context, as_json, fails_clearly, pass_context, print_json
from propeller_fl.config import Settings
from propeller_fl.deployment import broker_address
from propeller_fl.errors import PropellerError
from propeller_fl.link import Finding, probe_broker
from propeller_fl.store import check_store


@click.command()
@as_json
@pass_context
@fails_clearly
def doctor(context: Context, as_json: bool) -> None:
    """Look at the broker, the store and what building firmware needs; say what to mend.

    Status 1 when something is broken; warnings and what only firmware needs do not count.
    """
    findings = list(_findings(context.settings()))
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
            click.echo(f"{finding.level:<8}{finding.subject}: {finding.detail}{hint}")
    sys.exit(1 if any(finding.level == "error" for finding in findings) else 0)


def _findings(settings: Settings) -> Iterator[Finding]:
    prefix = f"{settings.topic_prefix}/" if settings.topic_prefix else ""
    yield from probe_broker(broker_address(settings.broker), topic_prefix=prefix)
    path = settings.data_dir / "coordinator" / "rounds.db"
    if path.exists():
        try:
            yield Finding("ok", "store", check_store(path))
        except PropellerError as err:
            yield Finding("error", "store", str(err.args[0]), err.hint)
    else:
        yield Finding("ok", "store", f"none yet at {path}")
    lacking = firmware.missing()
    if not lacking:
        yield Finding("ok", "firmware", "a Zephyr workspace is at hand")
    for missing in lacking:
        yield Finding("warning", "firmware", f"lacks {missing.what}", missing.remedy)


COMMANDS = (doctor,)
