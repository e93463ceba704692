"""Stacks with known truth, and where the real ones lie."""

from pathlib import Path

import numpy as np
import pytest

from napari_dff import synthetic

SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def surface() -> synthetic.Truth:
    return synthetic.rough_surface(size=96, planes=12, seed=5)


@pytest.fixture(scope="session")
def drifting() -> synthetic.Truth:
    return synthetic.machined_part(size=192, planes=9, seed=4)


@pytest.fixture
def real():
    """Folder of a real focal stack, by name; skips where it isn't on this machine."""

    def folder(name: str) -> Path:
        if not (SHARED / name).is_dir():
            pytest.skip(f"the photographs in {SHARED / name} are not on this machine")
        return SHARED / name

    return folder


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)
