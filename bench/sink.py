"""An empty paho-mqtt client, the least that a service on a broker can be.

`python bench/sink.py HOST PORT TOPIC COUNT`: takes COUNT messages at QoS 1 and says "done".
"""

from __future__ import annotations

import sys
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion


def main() -> None:
    host, port, topic, count = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="sink", clean_session=False)
    taken = 0

    def on_connect(*_: Any) -> None:
        client.subscribe(topic, qos=1)

    def on_subscribe(*_: Any) -> None:
        print("ready", flush=True)

    def on_message(*_: Any) -> None:
        nonlocal taken
        taken += 1
        if taken % count == 0:
            client.publish("bench/done", b"", qos=1)

    client.on_connect = on_connect
    client.on_subscribe = on_subscribe
    client.on_message = on_message
    client.connect(host, port)
    client.loop_forever()


if __name__ == "__main__":
    main()
