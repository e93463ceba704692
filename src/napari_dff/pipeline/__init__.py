"""All steps, in their order, for whole stacks, tiles and regions."""

from napari_dff.pipeline.driver import depth_from_focus as depth_from_focus
from napari_dff.pipeline.driver import run as run
from napari_dff.pipeline.preview import FocusCurve as FocusCurve
from napari_dff.pipeline.preview import Region as Region
from napari_dff.pipeline.preview import focus_curve as focus_curve
from napari_dff.pipeline.preview import reconstruct_region as reconstruct_region
from napari_dff.pipeline.quality import Coverage as Coverage
from napari_dff.pipeline.quality import Motion as Motion
from napari_dff.pipeline.quality import advice as advice
from napari_dff.pipeline.quality import coverage as coverage
from napari_dff.pipeline.quality import decompose_transforms as decompose_transforms
from napari_dff.pipeline.quality import summarize_alignment as summarize_alignment
