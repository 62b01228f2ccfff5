"""The loop by itself: timers, calls from other threads, failures, limits."""

from __future__ import annotations

import functools
import resource
import subprocess
import sys
import threading
from queue import SimpleQueue

import pytest

from propeller_fl.errors import ConfigError, LinkError
from propeller_fl.link import LinkLoop

from ..support.wait import wait_until


def test_calls_run_in_order_on_one_thread(loop: LinkLoop) -> None:
    seen: SimpleQueue[tuple[int, bool]] = SimpleQueue()

    def put(number: int) -> None:
        seen.put((number, loop.in_loop()))

    for number in range(1000):
        loop.call_soon(functools.partial(put, number))
    assert [seen.get(timeout=5) for _ in range(1000)] == [(n, True) for n in range(1000)]
    assert not loop.in_loop()


def test_calls_from_many_threads_all_arrive(loop: LinkLoop) -> None:
    seen: SimpleQueue[int] = SimpleQueue()

    def call() -> None:
        for number in range(500):
            loop.call_soon(functools.partial(seen.put, number))

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(2000):
        seen.get(timeout=5)


def test_timers_fire_in_order_of_time(loop: LinkLoop) -> None:
    seen: SimpleQueue[str] = SimpleQueue()
    loop.call_later(0.1, lambda: seen.put("last"))
    cancelled = loop.call_later(0.03, lambda: seen.put("never"))
    loop.call_later(0.05, lambda: seen.put("middle"))
    loop.call_later(0.0, lambda: seen.put("first"))
    cancelled.cancel()
    cancelled.cancel()
    assert [seen.get(timeout=5) for _ in range(3)] == ["first", "middle", "last"]
    assert seen.empty()


def test_timer_set_by_a_timer(loop: LinkLoop) -> None:
    done = threading.Event()

    def again() -> None:
        loop.call_later(0.01, done.set)

    loop.call_later(0.01, again)
    assert done.wait(5)


def test_failing_call_does_not_end_the_loop(
    loop: LinkLoop, caplog: pytest.LogCaptureFixture
) -> None:
    done = threading.Event()

    def fail() -> None:
        raise ValueError("on purpose")

    loop.call_soon(fail)
    loop.call_later(0.0, fail)
    loop.call_later(0.01, done.set)
    assert done.wait(5)
    assert caplog.text.count("ValueError: on purpose") == 2


def test_calls_before_start_wait() -> None:
    loop = LinkLoop()
    done = threading.Event()
    loop.call_soon(done.set)
    loop.call_later(0.0, done.set)
    assert not done.is_set()
    with loop:
        assert done.wait(5)


def test_stopped_loop_takes_nothing() -> None:
    loop = LinkLoop()
    loop.stop()
    with pytest.raises(LinkError, match="stopped"):
        loop.call_soon(lambda: None)
    with pytest.raises(LinkError, match="stopped"):
        loop.start()


def test_more_links_than_files() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        pytest.skip("no limit on open files here")
    with pytest.raises(ConfigError, match=f"{hard + 129} open files are needed, {hard} are allo"):
        LinkLoop(expected_links=hard + 1)


def test_soft_limit_is_raised() -> None:
    program = (
        "import resource as r\n"
        "from propeller_fl.link import LinkLoop\n"
        "_, hard = r.getrlimit(r.RLIMIT_NOFILE)\n"
        "r.setrlimit(r.RLIMIT_NOFILE, (64, hard))\n"
        "LinkLoop(expected_links=100)\n"
        "assert r.getrlimit(r.RLIMIT_NOFILE) == (hard, hard)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_sessions_are_opened_some_at_a_time(loop: LinkLoop) -> None:
    opened: list[int] = []
    ended = threading.Event()

    def begin() -> None:
        for number in range(100):
            loop.begin_opening(number, functools.partial(opened.append, number))

    def end(number: int) -> None:
        loop.end_opening(number)
        loop.end_opening(number)  # it says so more than once

    loop.call_soon(begin)
    wait_until(lambda: len(opened) == 32, 30, "as many as may be at once")
    loop.call_soon(lambda: end(99))  # was given up while it waited
    for number in range(99):
        loop.call_soon(functools.partial(end, number))
    loop.call_soon(lambda: loop.call_soon(ended.set))
    assert ended.wait(30)
    wait_until(lambda: len(opened) == 99, 30, "the others")
    assert opened == list(range(99))
