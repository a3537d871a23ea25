"""Compiled kernels: plain C that is called through ctypes (see calandria/base/compiled.py)."""

from pathlib import Path

from setuptools import Extension, setup

SOURCES = sorted(Path("calandria").glob("*/_*.c"))

setup(
    ext_modules=[
        Extension(
            ".".join(source.with_suffix("").parts),
            [str(source)],
            include_dirs=["calandria/base"],
            depends=[str(path) for path in Path("calandria").glob("*/*.h")],
            extra_compile_args=["-O3", "-std=gnu11", "-fno-math-errno", "-fopenmp-simd", "-Wall", "-Wextra", "-Wno-psabi"],
            extra_link_args=["-lm"],
        )
        for source in SOURCES
    ]
)
