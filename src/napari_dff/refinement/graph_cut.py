"""Alpha-expansion: minimise the energy of all labels by a sequence of graph cuts.

An expansion move lets any pixels change to one label, all at once. A graph cut finds the best move,
and no move raises the energy (Boykov, Veksler & Zabih 2001, doi:10.1109/34.969114).
"""

from functools import partial

import numpy as np

from napari_dff.model.depth_map import DepthMap
from napari_dff.refinement.context import RefinementContext
from napari_dff.refinement.energy import MAX_STEP_PLANES, choose_planes
from napari_dff.runtime.progress import Progress, iterate, raise_if_cancelled

MAX_PASSES = 4  # over all labels


class GraphCutMissing(ImportError):
    """gco-wrapper is not installed."""


def graph_cut(estimate: DepthMap, context: RefinementContext, progress: Progress) -> DepthMap:
    """Choose the plane of every pixel by alpha-expansion, then the depth between planes."""
    return choose_planes(estimate, context, partial(alpha_expansion, progress=progress))


def alpha_expansion(
    unary: np.ndarray, right: np.ndarray, down: np.ndarray, progress: Progress
) -> np.ndarray:
    """Return labels, (Y, X) int32, that no move improves, or those after `MAX_PASSES`.

    The start is the cheapest plane of each pixel. `unary` is (Y, X, Z) int32.
    """
    try:
        import gco
    except ImportError as error:
        raise GraphCutMissing(
            "refinement 'graph_cut' needs gco-wrapper, which may be used for research only: run "
            "\"pip install 'napari-dff[gco]'\" (with a C++ compiler, except for Python 3.11 on "
            "x86-64), or choose refinement 'message_passing'"
        ) from error
    height, width, count = unary.shape
    site = np.arange(height * width, dtype=np.int32).reshape(height, width)
    graph = gco.GCO()
    graph.create_general_graph(height * width, count)
    try:
        graph.set_data_cost(np.ascontiguousarray(unary.reshape(-1, count)))  # gco ignores strides
        graph.set_all_neighbors(
            np.concatenate([site[:, :-1].ravel(), site[:-1].ravel()]),
            np.concatenate([site[:, 1:].ravel(), site[1:].ravel()]),
            np.concatenate([right[:, :-1].ravel(), down[:-1].ravel()]),
        )
        plane = np.arange(count)
        step = np.minimum(np.abs(plane[:, None] - plane), MAX_STEP_PLANES)
        graph.set_smooth_cost(step.astype(np.int32))
        for pixel, label in enumerate(unary.argmin(axis=2).ravel()):
            if pixel % width == 0:
                raise_if_cancelled()
            graph.init_label_at_site(pixel, label)
        for number in range(1, MAX_PASSES + 1):
            improved = False
            for label in iterate(progress, range(count), desc=f"Graph cut, pass {number}"):
                improved |= bool(graph.expansion_on_alpha(label))
            if not improved:
                break
        return np.asarray(graph.get_labels(), dtype=np.int32).reshape(height, width)
    finally:
        graph.destroy_graph()
