"""A process with one session, for tests that kill it.

    python -m tests.link.session_process HOST PORT CLIENT_ID KEEPALIVE_S

It has a retained will "gone" on ``wills/CLIENT_ID``, prints "up", then the payload of each message
on ``work/CLIENT_ID``, and acknowledges none.
"""

from __future__ import annotations

import sys
import threading

from propeller_fl.link import BrokerAddress, Incoming, Link, LinkLoop, Will


def main() -> None:
    host, port, client_id, keepalive_s = sys.argv[1:]
    with LinkLoop() as loop:
        link = Link(
            loop,
            BrokerAddress(host, int(port)),
            client_id,
            will=Will(f"wills/{client_id}", b"gone", retain=True),
            keepalive_s=int(keepalive_s),
        )

        def show(incoming: Incoming) -> None:
            print(incoming.payload.decode(), flush=True)

        link.subscribe(f"work/{client_id}", show)
        link.start()
        link.wait_connected(10)
        print("up", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
