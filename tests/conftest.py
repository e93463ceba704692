"""Synthetic stacks with ground truth, the folder of real stacks, and options of the suite."""

import subprocess
import sys
from pathlib import Path

import hypothesis
import numpy as np
import pytest

from napari_dff import align, synthetic
from napari_dff.batch.tasks import run_task
from napari_dff.pipeline.warm_up import is_warm

SHARED = Path(__file__).parents[2] / "shared" / "data"


def pytest_addoption(parser):
    parser.addoption(
        "--effort",
        type=int,
        default=1,
        help="factor for the repetitions of the tests marked endurance: kills, damaged files, runs",
    )
    parser.addoption(
        "--first-parameters",
        action="store_true",
        help="run parametrized tests once each: enough to see whether old libraries fit",
    )


def pytest_collection_modifyitems(config, items):
    if config.getoption("--first-parameters"):
        first = {item.nodeid.split("[")[0]: item for item in reversed(items)}
        items[:] = [item for item in items if first[item.nodeid.split("[")[0]] is item]


def pytest_sessionstart(session):
    """Compile the kernels once, or each worker of a run of several files would compile them."""
    config = session.config
    is_one_file = len(config.args) == 1 and not Path(config.args[0]).is_dir()
    is_parallel = config.getoption("dist", "no") != "no" and not hasattr(config, "workerinput")
    if not is_parallel or is_one_file or config.option.collectonly or is_warm():
        return
    script = str(Path(__file__).with_name("compile_kernels.py"))
    processes = [subprocess.Popen([sys.executable, script, part]) for part in ("0", "1")]
    for process in processes:
        if process.wait():
            raise pytest.UsageError("compiling the kernels failed; see above")


def pytest_configure(config):
    hypothesis.settings.register_profile(
        "project",
        derandomize=True,
        database=None,
        deadline=None,
        max_examples=20 * config.getoption("--effort"),
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )
    hypothesis.settings.load_profile("project")


@pytest.fixture(scope="session")
def effort(request) -> int:
    """Value of `--effort`: the factor for the number of repetitions."""
    return request.config.getoption("--effort")


@pytest.fixture(scope="session")
def surface() -> synthetic.GroundTruth:
    return synthetic.rough_surface(size=96, planes=12, seed=5)


@pytest.fixture(scope="session")
def drifting() -> synthetic.GroundTruth:
    return synthetic.machined_part(size=192, planes=9, seed=4)


@pytest.fixture(scope="session")
def alignment(drifting):
    """Default alignment of the drifting planes."""
    result = align(drifting.stack.planes)
    result.planes.flags.writeable = False
    return result


@pytest.fixture
def real():
    """Folder of a real focal stack, by name; skips if it is not on this machine."""

    def folder(name: str) -> Path:
        if not (SHARED / name).is_dir():
            pytest.skip(f"the photographs in {SHARED / name} are not on this machine")
        return SHARED / name

    return folder


@pytest.fixture
def in_this_process(monkeypatch):
    """Run the tasks of a batch in this process, as starting a worker takes a second."""

    def run_tasks(tasks, **_):
        return map(run_task, tasks)

    monkeypatch.setattr("napari_dff.batch.executors.run_tasks", run_tasks)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)
