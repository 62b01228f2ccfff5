"""Strategies by name: the built-in ones, and those of other packages by entry point.

The one place of this package that reads more than its arguments: what is installed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Any, Final

from propeller_fl.errors import StrategyError, UnknownStrategyError
from propeller_fl.learn._averages import FedAdagrad, FedAdam, FedAvg, FedAvgM, FedProx, FedYogi
from propeller_fl.learn._robust import Krum, Median, MultiKrum, TrimmedMean
from propeller_fl.learn._strategy import Argument, Strategy, argument_of
from propeller_fl.wire import Scalar

GROUP: Final = "propeller_fl.strategies"
"""The entry points by which a package offers strategies: ``name = "package.module:Class"``."""

BUILT_IN: Final[Mapping[str, type[Strategy]]] = MappingProxyType(
    {
        "fedavg": FedAvg,
        "fedavgm": FedAvgM,
        "fedprox": FedProx,
        "fedadagrad": FedAdagrad,
        "fedadam": FedAdam,
        "fedyogi": FedYogi,
        "median": Median,
        "trimmed_mean": TrimmedMean,
        "krum": Krum,
        "multi_krum": MultiKrum,
    }
)


def strategy_names() -> tuple[str, ...]:
    """Every name there is: built-in first, then those of installed packages."""
    offered = sorted({point.name for point in entry_points(group=GROUP)} - BUILT_IN.keys())
    return (*BUILT_IN, *offered)


def strategy_arguments(name: str) -> dict[str, tuple[Argument, Scalar]]:
    """What the strategy takes: each argument by name, with its default. Raises as `strategy`."""
    found: dict[str, tuple[Argument, Scalar]] = {}
    for field in dataclasses.fields(_find(name)):  # type: ignore[arg-type]
        argument, default = argument_of(field.metadata), field.default
        if argument is not None and isinstance(default, bool | int | float | str):
            found[field.name] = argument, default
    return found


def strategy(name: str, args: Mapping[str, Any]) -> Strategy:
    """The strategy of this name with these arguments; what is left out has its default.

    Raises :class:`UnknownStrategyError`, or :class:`StrategyError` when an argument is none of
    its own, of the wrong type, or out of range.
    """
    kind, known = _find(name), strategy_arguments(name)
    accepted: dict[str, Scalar] = {}
    for key, value in args.items():
        if key not in known:
            takes = f"it takes {', '.join(known)}" if known else "it takes none"
            raise StrategyError(f"strategy {name} has no argument {key[:80]!a}", hint=takes)
        try:
            accepted[key] = known[key][0].accept(value)
        except ValueError as err:
            shown = repr(value)[:80]
            raise StrategyError(f"strategy_args.{key} is {shown}", hint=f"{err}") from None
    try:
        return kind(**accepted)
    except Exception as err:  # somebody else's code
        raise StrategyError(f"strategy {name} cannot be made: {err}") from err


def is_of_mean(name: str) -> bool:
    """Whether the strategy of this name may be given means of groups: :attr:`Strategy.of_mean`.
    Raises as :func:`strategy`."""
    return _find(name).of_mean


def strategy_digest(name: str, args: Mapping[str, Any]) -> str:
    """SHA-256 of the name and all arguments, defaults included: who has the same digest may go on
    from the same state. Raises as :func:`strategy`."""
    made = strategy(name, args)
    values = {key: getattr(made, key) for key in strategy_arguments(name)}
    return hashlib.sha256(json.dumps([name, values], sort_keys=True).encode()).hexdigest()


def _find(name: str) -> type[Strategy]:
    if name in BUILT_IN:
        return BUILT_IN[name]
    for point in entry_points(group=GROUP, name=name):
        try:
            found = point.load()
        except Exception as err:  # somebody else's code
            raise StrategyError(
                f"strategy {name} of {point.value} cannot be loaded: {err}",
                hint="mend or remove the package that offers it",
            ) from err
        if not (
            isinstance(found, type)
            and issubclass(found, Strategy)
            and dataclasses.is_dataclass(found)
        ):
            raise StrategyError(
                f"strategy {name}: {point.value} is no dataclass derived from Strategy",
                hint="see docs/strategies.md",
            )
        return found
    raise UnknownStrategyError(
        f"there is no strategy {name[:80]!a}", hint=f"one of {', '.join(strategy_names())}"
    )
