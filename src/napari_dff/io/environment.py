"""What computes a result: versions of libraries, and the machine, for its provenance."""

import functools
import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

LIBRARIES = (
    *("numpy", "scipy", "opencv-python-headless", "opencv-python", "numba", "llvmlite"),
    *("tifffile", "imagecodecs", "zarr", "numcodecs", "pillow"),
)
# Variables that choose other kernels, and so change the last digits of results
KERNEL_VARIABLES = "OPENBLAS_CORETYPE", "NUMBA_CPU_NAME", "NUMBA_DISABLE_JIT", "OPENCV_CPU_DISABLE"


@functools.cache
def environment_record() -> dict[str, Any]:
    """Return versions of Python and of libraries, BLAS, system and processor."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    variables = {name: os.environ[name] for name in KERNEL_VARIABLES if name in os.environ}
    return {
        "python": platform.python_version(),
        "libraries": {name: number for name in LIBRARIES if (number := _version(name))},
        "blas": f"{blas.get('name', '')} {blas.get('version', '')}".strip(),
        "system": platform.platform(),
        "processor": _processor(),
        **({"variables": variables} if variables else {}),
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _processor() -> str:
    """Return the name of the processor."""
    try:
        names = re.findall(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.M)
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
