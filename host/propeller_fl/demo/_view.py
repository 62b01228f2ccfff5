"""What the demo looks like: live in a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from propeller_fl.demo._run import DemoResult, RoundRow
from propeller_fl.operator import RoundEvent
from propeller_fl.wire import LaunchReport, RoundComplete, RoundStatus

_SHOWN = 24  # proplets whose answer is shown one by one


class View:
    """An onlooker that prints."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._rows: list[RoundRow] = []
        self._now = Text()
        self._live: Live | None = None
        self._participants: tuple[str, ...] = ()
        self._heading = ""

    @contextlib.contextmanager
    def showing(self) -> Iterator[None]:
        """Keep a live table on the screen inside, if there is a screen."""
        if not self._console.is_terminal:
            yield
            return
        with Live(console=self._console, refresh_per_second=8) as self._live:
            yield
            self._now = Text()
            self._refresh()
        self._live = None

    def say(self, line: str) -> None:
        self._console.print(line)

    def round_started(self, number: int, participants: tuple[str, ...]) -> None:
        self._participants = participants
        self._heading = f"round {number}: "
        self._now = Text(f"{self._heading}waiting for {len(participants)} proplets")
        self._refresh()

    def round_event(self, event: RoundEvent) -> None:
        match event:
            case RoundStatus():
                answered = set(event.answered)
                marks = "".join("●" if p in answered else "○" for p in self._participants)
                marks = marks if len(self._participants) <= _SHOWN else ""
                self._now = Text(
                    f"{self._heading}{marks} {event.accepted} of {event.k_of_n} have answered"
                )
            case LaunchReport():
                for proplet in event.absent:
                    self.say(f"{proplet} is not alive; its task goes out when it is")
                for proplet, error in event.failed.items():
                    self.say(f"{proplet}: {error}")
            case RoundComplete():
                self._now = Text(f"{self._heading}{event.status}, measuring {event.model_topic}")
        self._refresh()

    def round_ended(self, row: RoundRow) -> None:
        self._rows.append(row)
        if self._live is None:
            self.say(
                f"round {row.number:>2}: {row.updates} updates, {row.update_bytes:,} bytes, "
                f"{row.duration_s:.2f} s, train loss {row.train_loss:.3f}, "
                f"test loss {row.test_loss:.3f}, test accuracy {row.test_accuracy:.1%}"
            )
        self._refresh()

    def finish(self, result: DemoResult, target: float) -> None:
        """The final table (where the live one is not it already) and the verdict."""
        if not self._console.is_terminal:
            self._console.print(self._table())
        best = max(row.test_accuracy for row in result.rows)
        if result.reached is not None:
            self.say(
                f"{target:.0%} test accuracy reached in round {result.reached}, best {best:.1%}"
            )
        else:
            self.say(f"{target:.0%} test accuracy was not reached, best {best:.1%}")

    def _refresh(self) -> None:
        if self._live is not None:
            table = self._table()
            table.caption = self._now
            self._live.update(table)

    def _table(self) -> Table:
        table = Table(title="federated learning on 8×8 digits", caption_justify="left")
        for name in ("round", "updates", "bytes", "seconds"):
            table.add_column(name, justify="right")
        for name in ("train loss", "test loss", "test accuracy"):
            table.add_column(name, justify="right")
        for row in self._rows:
            table.add_row(
                str(row.number),
                str(row.updates),
                f"{row.update_bytes:,}",
                f"{row.duration_s:.2f}",
                f"{row.train_loss:.3f}",
                f"{row.test_loss:.3f}",
                f"{row.test_accuracy:.1%}",
            )
        return table


def make_view() -> View:
    """A view on standard output."""
    return View(Console(highlight=False, soft_wrap=True))
