"""Builds the one loop in C, learn/_weighted_sum.c; all else about the package is in pyproject.toml.

Zig's compiler comes with pip, so that nobody needs another one. It is a plain library that ctypes
opens: no header of Python's is wanted. Where it cannot be built the package is whole without it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

# baseline: a wheel runs on other processors, too; no contraction: the same bits on all of them
_FLAGS = "-shared -fPIC -O3 -mcpu=baseline -std=c11 -ffp-contract=off -g0 -Wall -Wextra -Werror"


class BuildLibrary(build_ext):
    def build_extension(self, ext: Extension) -> None:
        out = Path(self.get_ext_fullpath(ext.name))
        out.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(self.build_temp).resolve()
        caches = {name: str(scratch) for name in ("ZIG_LOCAL_CACHE_DIR", "ZIG_GLOBAL_CACHE_DIR")}
        command = [sys.executable, "-m", "ziglang", "cc", *_FLAGS.split(), *ext.sources]
        try:
            subprocess.run([*command, "-o", str(out)], check=True, env=os.environ | caches)
        except (OSError, subprocess.CalledProcessError) as error:
            raise CompileError(f"{ext.name}: {error}") from error


setup(
    cmdclass={"build_ext": BuildLibrary},
    ext_modules=[
        Extension(
            "propeller_fl.learn._weighted_sum_c",
            ["host/propeller_fl/learn/_weighted_sum.c"],
            optional=True,
            py_limited_api=True,
        )
    ],
)
