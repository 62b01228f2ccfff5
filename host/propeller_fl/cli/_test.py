"""`propeller-fl test …`"""

from __future__ import annotations

import click

from propeller_fl.cli import _test_http, _test_local


@click.group("test")
def group() -> None:
    """Try a whole round, and say whether it worked."""


group.add_command(_test_http.http)
group.add_command(_test_local.local)
