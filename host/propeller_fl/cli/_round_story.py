"""The story of a round, told from the stores: no broker, no service need run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

from propeller_fl.rounds import Round
from propeller_fl.store import LaunchState, SavedLaunch, StoryLine
from propeller_fl.wire import Mode, Outcome, RoundComplete

_NAMED: Final = 20  # absent participants, each with what is known of it


def tell(
    round_: Round,
    complete: RoundComplete | None,
    story: Sequence[StoryLine],
    launch: SavedLaunch | None,
    now_s: float,
) -> Iterator[str]:
    """Line by line. ``launch`` is what the manager knows, if its store is at hand."""
    opening = round_.opening
    start, begin_s = opening.start, opening.opened_at_s
    yield (
        f"{stamp(begin_s)}  round {start.round_id} opened: {start.k_of_n} of "
        f"{len(start.participants)} updates wanted within {start.timeout_s:g} s"
    )
    purpose = "evaluates" if start.mode is Mode.EVALUATE else "trains"
    params = "".join(f", {name}={value}" for name, value in start.hyperparams.items())
    yield (
        f"  {start.task_wasm_image} {purpose} {start.model_uri}{params}; "
        f"updates in {start.update_format}"
    )
    if start.mode is Mode.TRAIN and (start.strategy != "fedavg" or start.strategy_args):
        args = "".join(f", {name}={value}" for name, value in start.strategy_args.items())
        yield f"  updates become a model by {start.strategy}{args}"
    count = 0
    for line in story:
        if line.event == "accepted":
            count += 1
            yield f"  {_after(line.at_s - begin_s)}  {line.proplet_id} accepted: {line.detail} " + (
                f"({count} of {start.k_of_n})"
            )
        else:
            yield f"  {_after(line.at_s - begin_s)}  {line.proplet_id} {line.event}: {line.detail}"
    if complete is None:
        yield f"  {_pending(round_, now_s)}"
    else:
        yield f"  {_after(_seconds(complete.completed_at, begin_s))}  {_end(complete)}"
        if complete.metrics:
            means = ", ".join(f"{name} {value:.6g}" for name, value in complete.metrics.items())
            yield f"  {'':14}mean over samples: {means}"
    yield from _absent(round_, launch)


def stamp(at_s: float, precision: str = "seconds") -> str:
    """A time as text."""
    at = datetime.fromtimestamp(at_s, UTC).isoformat(timespec=precision)
    return at.replace("+00:00", "Z")


def _end(complete: RoundComplete) -> str:
    sums = f"{_count(complete.num_updates, 'update')}, {_count(complete.total_samples, 'sample')}"
    match complete.status:
        case Outcome.FAILED:
            return f"failed: {complete.detail}; the model is still {complete.model_topic}"
        case Outcome.TIMEOUT:
            return f"ended at its deadline: {sums} → {complete.model_topic}"
    return f"complete: {sums} → {complete.model_topic}"


def _pending(round_: Round, now_s: float) -> str:
    got = f"{len(round_.accepted)} of {round_.opening.start.k_of_n} updates"
    left_s = round_.opening.deadline_at_s - now_s
    if left_s >= 0:
        return f"{round_.phase}: {got}, {left_s:.0f} s left"
    return (
        f"{round_.phase}: {got}; its deadline passed {-left_s:.0f} s ago, and the coordinator "
        "has not ended it: does it run?"
    )


def _absent(round_: Round, launch: SavedLaunch | None) -> Iterator[str]:
    """Who has not contributed, and what is known of that."""
    missing = round_.missing
    if not missing:
        return
    yield f"  without {len(missing)} of {len(round_.opening.start.participants)} participants:"
    tasks = {task.proplet_id: task for task in launch.tasks} if launch else {}
    for proplet_id in missing[:_NAMED]:
        task = tasks.get(proplet_id)
        if launch is None:
            known = "no accepted update"
        elif task is None:
            known = "no task went out: it was not there"
        elif task.state is LaunchState.FAILED:
            known = f"its task failed: {task.error}"
        elif task.state is LaunchState.DONE:
            known = "its task was done, but no update of it accepted"
        else:
            known = "its task went out, and nothing came back"
        yield f"    {proplet_id}: {known}"
    if len(missing) > _NAMED:
        yield f"    … and {len(missing) - _NAMED} more"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _after(seconds: float) -> str:
    return f"+{seconds:10.3f} s"


def _seconds(completed_at: str, begin_s: float) -> float:
    return datetime.fromisoformat(completed_at).timestamp() - begin_s
