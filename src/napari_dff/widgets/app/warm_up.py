"""Kernels are compiled in another process when a form opens, so that the window stays free."""

import atexit
import subprocess
import sys
import time
from collections.abc import Callable

from napari_dff.runtime.progress import raise_if_cancelled

COMPILING = "Compiling, once per installation, for up to a minute"
POLL_S = 0.1
_processes: list[subprocess.Popen[bytes]] = []  # one at most


def start_warm_up() -> None:
    """Start to compile all kernels, unless it is done or has been started."""
    from napari_dff.pipeline.warm_up import is_warm

    if _processes or is_warm():
        return
    command = [sys.executable, "-m", "napari_dff", "warm-up", "--quiet"]
    try:
        _processes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL))
    except OSError:  # an application without a Python program: runs compile
        return
    atexit.register(_processes[0].kill)


def is_warming_up() -> bool:
    """Return whether kernels are being compiled in the other process."""
    return bool(_processes) and _processes[0].poll() is None


def wait_for_warm_up(notify: Callable[[], None]) -> None:
    """Wait for the other process, in a thread that may be cancelled."""
    while is_warming_up():
        notify()
        raise_if_cancelled()
        time.sleep(POLL_S)
