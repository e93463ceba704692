"""Memory that this process may still use: of the machine, its container and its ulimit."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

PROC = Path("/proc/self")
# By file system of a cgroup, versions 1 and 2: limit, usage, and page cache that can be released
CGROUP_FILES = {
    "cgroup": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
    "cgroup2": ("memory.max", "memory.current", ""),
}
PAGE_CACHE = "inactive_file", "active_file"


def available_bytes() -> int:
    """Return how much memory this process may allocate until a limit is reached, at least 0."""
    available = [psutil.virtual_memory().available, *_available_in_cgroups(), *_below_ulimits()]
    return max(0, min(available))


def _available_in_cgroups() -> Iterator[int]:
    """Yield what is left of the limit of each cgroup that contains this process."""
    with contextlib.suppress(OSError, ValueError, IndexError):  # no Linux, or hidden by a sandbox
        lines = (PROC / "cgroup").read_text().splitlines()
        own = [line.split(":", 2)[1:] for line in lines]
        for line in (PROC / "mountinfo").read_text().splitlines():
            mount, _, details = line.partition(" - ")
            root, top = mount.split()[3:5]
            kind, *_, options = details.split()
            wanted = {"cgroup": "memory", "cgroup2": ""}.get(kind)
            if wanted is None or (wanted and wanted not in options.split(",")):
                continue
            path = next(path for names, path in own if wanted in names.split(","))
            below = path.removeprefix(root) if path.startswith(root) else ""  # of a container
            folder = Path(top) / below.strip("/")
            for each in (folder, *folder.parents):
                yield from _left_in_cgroup(each, kind)
                if each == Path(top):
                    break


def _left_in_cgroup(folder: Path, kind: str) -> Iterator[int]:
    """Yield what is left of the limit of one cgroup; nothing if it has none."""
    limit_file, usage_file, prefix = CGROUP_FILES[kind]
    with contextlib.suppress(OSError, ValueError):  # "max" is no number
        limit = int((folder / limit_file).read_text())
        usage = int((folder / usage_file).read_text())
        lines = (folder / "memory.stat").read_text().splitlines()
        values = dict(line.split()[:2] for line in lines)
        yield limit - usage + sum(int(values.get(prefix + name, 0)) for name in PAGE_CACHE)


def _below_ulimits() -> Iterator[int]:
    """Yield what is left of the limits of address space and of data, as of `ulimit -v`."""
    if sys.platform == "win32":
        return
    import resource

    memory = psutil.Process().memory_info()
    pairs = (resource.RLIMIT_AS, memory.vms), (resource.RLIMIT_DATA, getattr(memory, "data", 0))
    for name, used in pairs:
        limit = resource.getrlimit(name)[0]
        if limit != resource.RLIM_INFINITY:
            yield limit - used
