"""Multi-label graph cut: one plane a pixel, chosen for all pixels together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_dff.progress import Progress
from napari_dff.refinement.energy import JUMP, data_term, edge_weights, relocated, sway
from napari_dff.windows import full_window

if TYPE_CHECKING:
    from napari_dff.depth import DepthMap
    from napari_dff.refinement.sequence import Scene

MAXIMUM_PASSES = 4


class GraphCutMissing(ImportError):
    """gco-wrapper is not installed."""


def graph_cut(estimate: DepthMap, scene: Scene, smoothness: float, progress: Progress) -> DepthMap:
    """Alpha-expansion over the planes, then depth between planes again.

    Boykov, Veksler & Zabih 2001, doi:10.1109/34.969114; by gco-wrapper.
    """
    curves, noise = scene.volume.read(full_window(estimate.depth.shape))
    unary = data_term(estimate, curves, noise)
    if scene.said is not None:
        sway(unary, scene.said, smoothness)
    right, down = edge_weights(scene.guide, smoothness)
    labels = expand(unary, right, down, progress)
    return relocated(estimate, curves, noise, scene.positions, labels)


def expand(
    unary: np.ndarray,  # (Y, X, Z) int32
    right: np.ndarray,  # (Y, X) int32
    down: np.ndarray,  # (Y, X) int32
    progress: Progress,
) -> np.ndarray:  # (Y, X) int32
    """Labels that no expansion of a single label improves, or after `MAXIMUM_PASSES`.

    Begins with each pixel's best plane; the energy never rises.
    """
    height, width, count = unary.shape
    site = np.arange(height * width, dtype=np.int32).reshape(height, width)
    graph = _gco().GCO()
    graph.create_general_graph(height * width, count)
    try:
        # gco reads memory, not strides.
        graph.set_data_cost(np.ascontiguousarray(unary.reshape(-1, count)))
        graph.set_all_neighbors(
            np.concatenate([site[:, :-1].ravel(), site[:-1].ravel()]),
            np.concatenate([site[:, 1:].ravel(), site[1:].ravel()]),
            np.concatenate([right[:, :-1].ravel(), down[:-1].ravel()]),
        )
        plane = np.arange(count)
        graph.set_smooth_cost(np.minimum(np.abs(plane[:, None] - plane), JUMP).astype(np.int32))
        for pixel, label in enumerate(unary.argmin(axis=2).ravel()):
            graph.init_label_at_site(pixel, label)
        for sweep in range(MAXIMUM_PASSES):
            better = False
            for label in progress(range(count), desc=f"Graph cut, pass {sweep + 1}"):
                better |= bool(graph.expansion_on_alpha(label))
            if not better:
                break
        return np.asarray(graph.get_labels(), dtype=np.int32).reshape(height, width)
    finally:
        graph.destroy_graph()


def _gco() -> Any:
    try:
        import gco
    except ImportError as error:
        raise GraphCutMissing(
            "refinement 'graph_cut' needs gco-wrapper, which has no ready-made package for this "
            "Python and machine: install a C++ compiler and run 'pip install gco-wrapper', "
            "or choose refinement 'message_passing'"
        ) from error
    return gco
