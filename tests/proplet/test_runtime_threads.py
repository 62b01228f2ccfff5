"""Many runs at once, and one after the other, do not disturb each other or the host."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType

import pytest

from propeller_fl.errors import LimitExceeded, ModuleError, ModuleExit, ModuleTrap, RequestError
from propeller_fl.proplet import Invocation, Limits, WasmtimeRuntime
from tests.proplet.modules import ENDLESS, SPEND, client, read_file, say
from tests.support.wait import wait_until


def test_same_module_gives_same_bytes_in_many_threads(runtime: WasmtimeRuntime) -> None:
    module = runtime.compile(SPEND)

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: runtime.run(module, Invocation()), range(100)))

    assert {(result.stdout, result.fuel_used) for result in results} == {
        (results[0].stdout, results[0].fuel_used)
    }


def test_each_run_sees_its_own_files(runtime: WasmtimeRuntime) -> None:
    module = runtime.compile(read_file("data", "fd_pread"))
    contents = [f"rows of proplet {number}".encode() * 50 for number in range(100)]

    def run(content: bytes) -> bytes:
        return runtime.run(module, Invocation(files={"data": content})).stdout

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(run, contents)) == contents


def test_each_run_fails_in_its_own_way(runtime: WasmtimeRuntime) -> None:
    limits = Limits(output_bytes=3, fuel=1_000_000)
    expected: dict[bytes, type[ModuleError] | None] = {
        client("unreachable"): ModuleTrap,
        client("(call $proc_exit (i32.const 7))"): ModuleExit,
        say("more than three"): LimitExceeded,
        ENDLESS: LimitExceeded,
        say("ok"): None,
    }

    def run(image: bytes) -> type[Exception] | None:
        try:
            runtime.run(runtime.compile(image), Invocation(), limits)
        except ModuleError as error:
            return type(error)
        return None

    images = list(expected) * 40
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(run, images)) == [expected[image] for image in images]


def test_one_module_compiled_by_many_threads_is_one_module(runtime: WasmtimeRuntime) -> None:
    with ThreadPoolExecutor(8) as pool:
        modules = list(pool.map(runtime.compile, [SPEND] * 20))

    assert {id(module) for module in modules} == {id(modules[0])}


def test_other_runs_end_while_one_does_not(runtime: WasmtimeRuntime) -> None:
    endless, short = runtime.compile(ENDLESS), runtime.compile(SPEND)

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(runtime.run, endless, Invocation(), Limits(wall_time_s=1))
        assert [runtime.run(short, Invocation()).stdout for _ in range(20)] == [b"done"] * 20
        with pytest.raises(LimitExceeded):
            waiting.result()


def test_close_stops_the_runs_under_way() -> None:
    with WasmtimeRuntime() as runtime, ThreadPoolExecutor(1) as pool:
        endless = runtime.compile(ENDLESS)
        waiting = pool.submit(runtime.run, endless, Invocation(), Limits(wall_time_s=3600))
        wait_until(waiting.running, 10, "the run is under way")
        runtime.close()

        with pytest.raises(RequestError, match="closed"):
            waiting.result()


def test_exception_of_a_signal_handler_leaves_the_run_and_the_process_whole(
    runtime: WasmtimeRuntime,
) -> None:
    class Interrupted(Exception):
        pass

    def interrupt(signum: int, frame: FrameType | None) -> None:
        raise Interrupted

    module = runtime.compile(
        client(
            "(loop $again (drop (call $environ_sizes_get (i32.const 0) (i32.const 4))) (br $again))"
        )
    )
    before = signal.signal(signal.SIGUSR1, interrupt)
    main = threading.main_thread().ident
    timer = threading.Timer(0.05, signal.pthread_kill, [main, signal.SIGUSR1])

    def run_and_be_interrupted() -> None:
        timer.start()
        runtime.run(module, Invocation(), Limits(wall_time_s=60))

    try:
        with pytest.raises(Interrupted):
            run_and_be_interrupted()
    finally:
        timer.join()
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_a_thousand_runs_leave_nothing_behind(runtime: WasmtimeRuntime) -> None:
    files: dict[str, bytes | Path] = {"model": bytes(10_000), "data": bytes(100_000)}
    good, bad = runtime.compile(read_file("data", "fd_pread")), runtime.compile(ENDLESS)

    def run_many(count: int) -> None:
        for number in range(count):
            if number % 10:
                runtime.run(good, Invocation({"ROUND_ID": f"r-{number}"}, files))
            else:
                with pytest.raises(LimitExceeded):
                    runtime.run(bad, Invocation(files=files), Limits(fuel=1000))

    def resident_bytes() -> int:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    run_many(200)  # what is allocated once has been by then
    before, open_before = resident_bytes(), len(list(Path("/proc/self/fd").iterdir()))
    run_many(1000)

    assert resident_bytes() - before < 4 * 1024 * 1024
    assert len(list(Path("/proc/self/fd").iterdir())) <= open_before
