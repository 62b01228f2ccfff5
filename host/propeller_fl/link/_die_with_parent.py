"""Become another program that the kernel ends when our parent does.

    python _die_with_parent.py PARENT_PID PROGRAM ARGUMENT…

A program of its own, because code between fork and exec is not safe in a parent with threads.
Only Linux has such a wish; elsewhere the program just runs.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, program, *_ = sys.argv[1:]
    if sys.platform == "linux":
        if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL):
            sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
        if os.getppid() != int(parent):  # it died before the wish was heard
            sys.exit("the parent has gone")
    os.execv(program, sys.argv[2:])


if __name__ == "__main__":
    main()
