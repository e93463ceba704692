__version__: str

from .depth.estimation import FocusPeaks as FocusPeaks
from .depth.estimation import depth_map as depth_map
from .depth.estimation import focus_peaks as focus_peaks
from .focus import focus_measure as focus_measure
from .fusion.fuse import all_in_focus as all_in_focus
from .io import StackError as StackError
from .io import read_acquisitions as read_acquisitions
from .io import read_recipe as read_recipe
from .io import read_stack as read_stack
from .io import read_transforms as read_transforms
from .io import save_reconstruction as save_reconstruction
from .model.acquisition import Acquisition as Acquisition
from .model.depth_map import DepthMap as DepthMap
from .model.presets import PRESETS as PRESETS
from .model.presets import Preset as Preset
from .model.recipe import Recipe as Recipe
from .model.result import Reconstruction as Reconstruction
from .model.stack import FocalStack as FocalStack
from .pipeline.driver import depth_from_focus as depth_from_focus
from .refinement import refine as refine
from .registration import Alignment as Alignment
from .registration import PlaneReport as PlaneReport
from .registration import align as align
from .registration import resample as resample
from .runtime.progress import Cancelled as Cancelled
from .runtime.progress import Progress as Progress
