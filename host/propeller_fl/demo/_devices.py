"""Firmware proplets for the demo's fleet."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from propeller_fl import firmware
from propeller_fl.demo._plan import DemoPlan
from propeller_fl.firmware import DeviceSetup, FirmwareDevice
from propeller_fl.link import BrokerAddress


def devices(
    plan: DemoPlan, broker: BrokerAddress, say: Callable[[str], None]
) -> Iterator[FirmwareDevice]:
    """Build the firmware for the plan's board; yields its devices, to be started.

    Raises :class:`ConfigError` or :class:`RequestError` that says what is missing.
    """
    if not plan.device_ids:
        return
    board = firmware.find_board(plan.board)
    say(f"building the firmware for {plan.board}")
    image = firmware.build_firmware(board)
    for name in plan.device_ids:
        setup = DeviceSetup(name, broker, plan.data_dir / f"{name}.cbor")
        yield FirmwareDevice(image, setup, plan.output / "devices")
