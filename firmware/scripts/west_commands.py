"""What this repository adds to west: ``west fl-data`` and ``west fl-sizes``."""

from __future__ import annotations

import argparse
import pickle
import subprocess
import sys
from pathlib import Path

from west.commands import WestCommand

_SCRIPTS = Path(__file__).resolve().parent
_PARTITION = "fl_data_partition"


class FlData(WestCommand):
    """Writes a proplet's local data into its board's flash."""

    def __init__(self) -> None:
        super().__init__(
            "fl-data",
            "write a proplet's local data into its board's flash",
            "Puts a file into the partition fl_data_partition, from where the training module\n"
            "reads it as /fl/data. The board must have been built before.\n\n"
            "What is not known here goes on to `west flash`: --runner, --dev-id and so on.",
            accepts_unknown_args=True,
        )

    def do_add_parser(self, parser_adder):  # type: ignore[no-untyped-def]
        parser = parser_adder.add_parser(self.name, help=self.help, description=self.description)
        parser.add_argument("-d", "--build-dir", type=Path, default=Path("build"))
        parser.add_argument("file", type=Path, help="the data: CBOR or JSON")
        return parser

    def do_run(self, args: argparse.Namespace, unknown: list[str]) -> None:
        from intelhex import IntelHex

        sys.path.insert(0, str(_SCRIPTS))
        from fl_blob import make_blob

        address, capacity = self._partition(args.build_dir)
        blob = make_blob("data", args.file.read_bytes())
        if len(blob) > capacity:
            self.die(f"{args.file}: {len(blob)} bytes with header, but only {capacity} in flash")
        image = IntelHex()
        image.puts(address, blob)
        hex_file = args.build_dir / "fl_data.hex"
        image.write_hex_file(str(hex_file))
        command = ["west", "flash", "-d", str(args.build_dir), "--skip-rebuild"]
        command += ["--hex-file", str(hex_file), *unknown]
        status = subprocess.run(command, check=False).returncode
        if status != 0:
            self.die(f"the board was not flashed (status {status}); the data is in {hex_file}")

    def _partition(self, build_dir: Path) -> tuple[int, int]:
        """Address and size of the partition, from the devicetree that the build has kept."""
        kept = build_dir / "zephyr" / "edt.pickle"
        if not kept.is_file():
            self.die(f"{build_dir} holds no build; build the firmware there first")
        base = Path(self.manifest.get_projects(["zephyr"])[0].abspath)
        sys.path.insert(0, str(base / "scripts" / "dts" / "python-devicetree" / "src"))
        with kept.open("rb") as stream:
            edt = pickle.load(stream)  # of our own build
        node = edt.label2node.get(_PARTITION)
        if node is None:
            self.die(f"this board has no {_PARTITION}")
        partition, flash = node.regs[0], node.parent.parent.regs[0]
        return flash.addr + partition.addr, partition.size


class FlSizes(WestCommand):
    """Flash and RAM of firmware builds, held against the budget."""

    def __init__(self) -> None:
        super().__init__(
            "fl-sizes",
            "flash and RAM of firmware builds, held against the budget",
            "Status 1 when a build is over its budget in firmware/sizes.yaml.",
        )

    def do_add_parser(self, parser_adder):  # type: ignore[no-untyped-def]
        parser = parser_adder.add_parser(self.name, help=self.help, description=self.description)
        parser.add_argument("builds", nargs="+", metavar="NAME=BUILD_DIR")
        return parser

    def do_run(self, args: argparse.Namespace, unknown: list[str]) -> None:
        command = [sys.executable, str(_SCRIPTS / "fl_sizes.py"), *args.builds]
        sys.exit(subprocess.run(command, check=False).returncode)
