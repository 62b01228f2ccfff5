"""A run that is stopped ends at once, by its own name; no other does."""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from propeller_fl.errors import LimitExceeded, RequestError
from propeller_fl.proplet import Invocation, Limits, Stop, WasmtimeRuntime
from tests.proplet.modules import ENDLESS, SPEND, client

PATIENCE_S = 60.0
LONG = Limits(fuel=1 << 50, wall_time_s=300)

SAY_AND_LOOP = client(
    "(call $say (i32.const 1) (i32.const 64) (i32.const 2)) (loop $again (br $again))", text="up"
)
SAY_AND_SPEND = client(
    "(local $left i32) (local.set $left (i32.const 2000000))"
    " (call $say (i32.const 1) (i32.const 64) (i32.const 2))"
    " (loop $again (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))"
    " (call $say (i32.const 1) (i32.const 66) (i32.const 4))",
    text="updone",
)


class Listener(io.BytesIO):
    """Does something when the module speaks for the first time, which then has yet to go on."""

    def __init__(self, hear: Callable[[], None]) -> None:
        super().__init__()
        self._hear = hear

    def write(self, data: object) -> int:
        if not self.tell():
            self._hear()
        return super().write(data)  # type: ignore[arg-type]


def run(
    runtime: WasmtimeRuntime,
    image: bytes,
    stop: Stop,
    hear: Callable[[], None],
    limits: Limits = LONG,
    *,
    ahead: bool = True,
) -> bytes:
    """Run, and make ready for the next one; return what it wrote."""
    spool = Listener(hear)
    with contextlib.ExitStack() as leftovers:
        runtime.run(
            runtime.compile(image),
            Invocation(spool=spool),
            limits,
            stop=stop,
            leftovers=leftovers if ahead else None,
        )
    return spool.getvalue()


@pytest.mark.parametrize("image", [SAY_AND_LOOP, SAY_AND_SPEND], ids=["endless", "spend"])
@pytest.mark.parametrize("ahead", [True, False], ids=["made ahead", "made anew"])
def test_a_run_that_is_stopped_says_so_and_the_next_is_whole(
    runtime: WasmtimeRuntime, image: bytes, ahead: bool
) -> None:
    for _ in range(3):
        stop = Stop()
        with pytest.raises(RequestError, match=r"the run was stopped$"):
            run(runtime, image, stop, stop.now, ahead=ahead)
        assert run(runtime, SAY_AND_SPEND, Stop(), lambda: None, ahead=ahead) == b"updone"


def test_each_end_has_its_own_name(runtime: WasmtimeRuntime) -> None:
    short = Limits(fuel=1 << 50, wall_time_s=0.1)
    for _ in range(2):
        stop = Stop()
        with pytest.raises(LimitExceeded, match=r"did not end within 0\.1 s"):
            run(runtime, SAY_AND_LOOP, Stop(), lambda: None, short)
        with pytest.raises(LimitExceeded, match="instructions"):
            run(runtime, SAY_AND_LOOP, Stop(), lambda: None, Limits(fuel=10_000))
        with pytest.raises(RequestError, match="stopped"):
            run(runtime, SAY_AND_LOOP, stop, stop.now)


def test_what_is_stopped_before_it_begins_does_nothing(runtime: WasmtimeRuntime) -> None:
    stop, heard = Stop(), threading.Event()
    stop.now()

    with pytest.raises(RequestError, match="stopped"):
        run(runtime, SAY_AND_SPEND, stop, heard.set)

    assert not heard.is_set()


def test_a_stop_that_comes_after_the_end_stops_nothing_else(runtime: WasmtimeRuntime) -> None:
    """In the very engine and instance that the run before it has left behind."""
    stops = [Stop() for _ in range(20)]
    for stop in stops:
        assert run(runtime, SAY_AND_SPEND, stop, lambda: None) == b"updone"

    def stop_all() -> None:
        for stop in stops:
            stop.now()

    assert run(runtime, SAY_AND_SPEND, Stop(), stop_all) == b"updone"


def test_others_of_the_same_module_go_on(runtime: WasmtimeRuntime) -> None:
    stops = [Stop() for _ in range(4)]
    up = threading.Semaphore(0)
    with ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(run, runtime, SAY_AND_LOOP, stop, up.release) for stop in stops]
        try:
            for _ in runs:
                assert up.acquire(timeout=PATIENCE_S)
            for number, stop in enumerate(stops):
                assert not any(later.done() for later in runs[number:])
                stop.now()
                with pytest.raises(RequestError, match="stopped"):
                    runs[number].result(PATIENCE_S)
                done = runtime.run(runtime.compile(SPEND), Invocation(), LONG)
                assert done.stdout == b"done"
        finally:
            for stop in stops:
                stop.now()


def test_a_time_limit_holds_beside_longer_and_shorter_ones(runtime: WasmtimeRuntime) -> None:
    stop, up = Stop(), threading.Event()
    with ThreadPoolExecutor(2) as pool:
        longer = pool.submit(run, runtime, SAY_AND_LOOP, stop, up.set)
        try:
            assert up.wait(PATIENCE_S)
            for wall_time_s in (0.2, 0.1, 0.2):
                limits = Limits(fuel=1 << 50, wall_time_s=wall_time_s)
                shorter = pool.submit(run, runtime, ENDLESS, Stop(), lambda: None, limits)
                with pytest.raises(LimitExceeded, match=f"{wall_time_s:g} s"):
                    shorter.result(PATIENCE_S)
            assert not longer.done()
        finally:
            stop.now()


def test_stops_among_many_runs_each_hit_their_own(runtime: WasmtimeRuntime) -> None:
    def one(number: int) -> str:
        stop = Stop()
        try:
            return run(
                runtime, SAY_AND_SPEND, stop, stop.now if number % 3 == 0 else lambda: None
            ).decode()
        except RequestError as error:
            return str(error)

    with ThreadPoolExecutor(8) as pool:
        ends = list(pool.map(one, range(120)))

    assert ends == ["the run was stopped" if n % 3 == 0 else "updone" for n in range(120)]
