__version__: str

from .acquisition import Acquisition as Acquisition
from .depth import FocusPeaks as FocusPeaks
from .depth import depth_map as depth_map
from .depth import focus_peaks as focus_peaks
from .depth_map import DepthMap as DepthMap
from .focus import focus_measure as focus_measure
from .fusion import all_in_focus as all_in_focus
from .io import StackError as StackError
from .io import read_acquisitions as read_acquisitions
from .io import read_recipe as read_recipe
from .io import read_stack as read_stack
from .io import read_transforms as read_transforms
from .io import save_reconstruction as save_reconstruction
from .pipeline import depth_from_focus as depth_from_focus
from .progress import Cancelled as Cancelled
from .progress import Progress as Progress
from .recipe import Recipe as Recipe
from .refinement import refine as refine
from .registration import Alignment as Alignment
from .registration import PlaneReport as PlaneReport
from .registration import align as align
from .registration import resample as resample
from .result import Reconstruction as Reconstruction
from .stack import FocalStack as FocalStack
