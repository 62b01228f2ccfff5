"""The accuracy curve, as a picture file and as text."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from propeller_fl.demo._run import RoundRow
from propeller_fl.errors import ConfigError


@contextlib.contextmanager
def drawing() -> Iterator[None]:
    """Import what draws inside. Raises :class:`ConfigError` when it is not installed."""
    try:
        yield
    except ImportError as err:
        raise ConfigError(
            f"no picture without {err.name}", hint="pip install 'propeller-fl[demo]'"
        ) from err


def draw_curve(rows: tuple[RoundRow, ...], target: float, picture: Path) -> str:
    """Write the curve to ``picture`` (its suffix says the format); returns it as text.

    Raises :class:`ConfigError` when what draws is not installed.
    """
    with drawing():
        import matplotlib
        import plotext

        matplotlib.use("Agg")
        from matplotlib import pyplot

    rounds = [row.number for row in rows]
    accuracy = [row.test_accuracy * 100 for row in rows]
    figure, axes = pyplot.subplots(figsize=(7, 4), dpi=120)
    axes.plot(rounds, accuracy, marker="o", label="federated model, test samples")
    axes.axhline(target * 100, linestyle="--", linewidth=1, color="gray", label=f"{target:.0%}")
    axes.set(xlabel="round", ylabel="accuracy, %", title="8×8 digits, FedAvg", xticks=rounds)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.tight_layout()
    figure.savefig(picture)
    pyplot.close(figure)

    plotext.clear_figure()
    plotext.theme("clear")
    plotext.plot_size(72, 16)
    plotext.plot(rounds, accuracy, marker="braille")
    plotext.hline(target * 100)
    plotext.title("test accuracy, % by round")
    text: str = plotext.build()
    return text
