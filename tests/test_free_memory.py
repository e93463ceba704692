"""What is free is limited by the machine, by cgroups of both versions, and by ulimit."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from napari_dff.runtime import free_memory

STAT = "\n".join(f"{name}inactive_file 500\n{name}active_file 200" for name in ("", "total_"))


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A process of which only the cgroups that a test writes are seen; 10 GB are free."""
    monkeypatch.setattr(free_memory, "PROC", tmp_path)
    free = SimpleNamespace(available=10 * 10**9)
    monkeypatch.setattr(free_memory.psutil, "virtual_memory", lambda: free)
    return tmp_path


def cgroup(folder, kind, limit, usage):
    names = free_memory.CGROUP_FILES[kind]
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in zip(("limit", "usage"), (limit, usage), strict=True):
        (folder / names[name == "usage"]).write_text(f"{value}\n")
    (folder / "memory.stat").write_text(STAT)


def test_without_a_limit_all_memory_of_the_machine_is_free(machine):
    assert free_memory.available_bytes() == 10 * 10**9
    (machine / "cgroup").write_text("0::/a\n")
    (machine / "mountinfo").write_text(f"1 2 0:3 / {machine}/v2 rw - cgroup2 cgroup2 rw\n")
    cgroup(machine / "v2" / "a", "cgroup2", "max", 10**9)
    assert free_memory.available_bytes() == 10 * 10**9


@pytest.mark.parametrize(
    ("own", "root", "folder"),
    [("/a/b", "/", "a/b"), ("/a/b", "/", "a"), ("/a/b", "/a/b", ""), ("/docker/x", "/y", "")],
    ids=["own", "parent", "container", "other name of the host"],
)
@pytest.mark.parametrize("kind", free_memory.CGROUP_FILES)
def test_the_limit_of_a_cgroup_and_of_those_around_it_holds(kind, own, root, folder, machine):
    names = "4:cpu,memory:" if kind == "cgroup" else "0::"
    options = "rw,memory" if kind == "cgroup" else "rw"
    (machine / "cgroup").write_text(f"3:cpuset:/other\n{names}{own}\n")
    (machine / "mountinfo").write_text(f"1 2 0:3 {root} {machine}/top rw - {kind} x {options}\n")
    cgroup(machine / "top" / folder, kind, 3 * 10**9, 10**9)
    assert free_memory.available_bytes() == 2 * 10**9 + 700  # and its page cache


@pytest.mark.skipif(sys.platform != "linux", reason="macOS does not enforce it")
def test_ulimit_holds():
    code = (
        "import resource, psutil; from napari_dff.runtime.free_memory import available_bytes;"
        "limit = psutil.Process().memory_info().vms + 10**9;"
        "resource.setrlimit(resource.RLIMIT_AS, (limit, limit)); print(available_bytes())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0.9e9 < int(done.stdout) <= 1e9
