"""A process with one proplet, for tests that kill it.

    python -m tests.proplet.host_process HOST PORT PROPLET_ID

Prints "up" once it is connected.
"""

from __future__ import annotations

import sys
import threading
from dataclasses import replace

from propeller_fl.link import BrokerAddress
from propeller_fl.proplet import PropletHost
from propeller_fl.wire import Topics

from .conftest import CONFIG


def main() -> None:
    host, port, proplet_id = sys.argv[1:]
    config = replace(CONFIG, ids=(proplet_id,))
    with PropletHost(BrokerAddress(host, int(port)), Topics(), config) as proplets:
        proplets.wait_connected(20)
        print("up", flush=True)
        threading.Event().wait()


main()
