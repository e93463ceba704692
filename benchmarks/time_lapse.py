"""What does coherence in time change? Errors of a rendered time-lapse without and with it.

Run from the top of a clone::

    python benchmarks/time_lapse.py
"""

from __future__ import annotations

import warnings

import numpy as np

from napari_dff import Recipe, synthetic
from napari_dff.pipeline import run
from napari_dff.pipeline.sinks import ArraySink

SPACING = 2.0  # µm, of the planes of `moving_surface`
SURFACES = {
    "motion": {},
    "motion, 50 photons": {"photons": 50},
    "motion, 15 photons": {"photons": 15},
    "jump of 3 planes": {"jump": 3},
    "jump of 3 planes, 50 photons": {"jump": 3, "photons": 50},
    "at rest": {"motion": 0},
    "at rest, 50 photons": {"motion": 0, "photons": 50},
}


def row(name: str) -> str:
    """Return the RMS error, and the shares within 1 σ and never in focus, of each choice."""
    acquisition, truth = synthetic.moving_surface(**SURFACES[name])
    cells = [name]
    for coherence in ("none", "previous"):
        sink = ArraySink(acquisition)
        run(acquisition, Recipe(registration="none", coherence=coherence), sink)
        depth, uncertainty = sink.refined.depth[1:], sink.refined.uncertainty[1:]
        known, error = np.isfinite(uncertainty), np.abs(depth - truth[1:])
        within = (error < uncertainty)[known].mean()
        rms = np.sqrt(np.mean(error[known] ** 2)) / SPACING
        cells += [f"{rms:.3f}", f"{within:.2f}", f"{1 - known.mean():.0%}"]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print("| surface | error | within 1 σ | never in focus | coherent: error | within | never |")
    print("|---|---|---|---|---|---|---|")
    for surface in SURFACES:
        print(row(surface), flush=True)
