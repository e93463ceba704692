"""All settings of a run: their choices, ranges and defaults.

The other modules import the choices from here, so that reading a recipe, or printing the help of
the command line, loads no numerical library.
"""

import difflib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from napari_dff.model import checks
from napari_dff.runtime.words import shorten

Registration = Literal["joint", "sift", "ecc", "none"]
Motion = Literal["auto", "translation", "similarity", "affine", "homography"]
Exposure = Literal["auto", "keep", "equal"]
Crop = Literal["none", "common"]
_Laplacian = Literal[
    "log", "laplacian", "modified_laplacian", "diagonal_laplacian", "laplacian_variance"
]
_Gradient = Literal[
    "tenengrad", "tenengrad_variance", "gradient_energy", "gaussian_derivative", "brenner"
]
_Wavelet = Literal["wavelet_sum", "wavelet_variance", "wavelet_ratio"]
_Statistic = Literal["variance", "normalised_variance", "third_moment", "vollath"]
_Cosine = Literal["dct_energy", "dct_reduced"]
_Other = Literal["helmli", "steerable", "contrast", "curvature"]
Operator = Literal[_Laplacian, "ring_difference", _Gradient, _Wavelet, _Statistic, _Cosine, _Other]
SIGMA = checks.Range(0.0, 32.0, 0.1, has_auto=True)  # pixels
WINDOW = checks.Range(1, 255, 2, has_auto=True)  # pixels
Sigma = Annotated[float | Literal["auto"], SIGMA]
WindowWidth = Annotated[int | Literal["auto"], WINDOW]
Aggregation = Literal["adaptive", "balanced", "window", "guided"]
Peak = Literal["curve", "lorentzian", "gaussian", "parabola", "argmax"]
Prefer = Literal["sharpest", "first", "last"]
_Step = Literal["message_passing", "graph_cut", "least_squares", "weighted_median", "none"]
Refinement = Literal["message_passing+least_squares", "graph_cut+weighted_median", _Step]
SMOOTHNESS = checks.Range(0.0, 100.0, 0.1)
Coherence = Literal["none", "previous"]
Fusion = Literal["multiscale", "noise_aware", "nearest"]
FORMER_FUSIONS = {  # of earlier versions, and what replaces them
    "pyramid": "multiscale",
    "linear": "noise_aware",
}


class FocusScale(NamedTuple):
    """The `sigma` and `window` that focus is measured with, in pixels."""

    sigma: float
    window: int


def current_fusion(name: Any) -> Any:
    """Return the fusion that replaces `name`, with a warning, or `name` if none does."""
    if not isinstance(name, str) or name not in FORMER_FUSIONS:
        return name
    new = FORMER_FUSIONS[name]
    warnings.warn(f"fusion {name} is deprecated, use {new}", DeprecationWarning, stacklevel=4)
    return new


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All settings of a run, validated on construction.

    Parameters
    ----------
    registration : str
        Alignment method: features, then the grey levels of all near neighbours in one system
        (joint); features only (sift); grey levels from plane to plane (ecc); no alignment (none).
    motion : str
        Motion model between neighbouring planes. auto selects the simplest model that explains the
        matches of all planes.
    exposure : str
        Brightness correction: none (keep), scale every plane to the brightness of the middle plane
        (equal), or do so only where light drifts or flickers: it changes by the same factor
        everywhere in a plane (auto).
    crop : str
        Frame of the results: that of the planes (none), or a rectangle in which all aligned planes
        of all times have data (common).
    operator : str
        Focus operator: the measure of local sharpness.
    sigma : float or "auto"
        Standard deviation of the Gaussian filter before the operator, in pixels. Increase it for
        noisy stacks and coarse texture. auto selects 0.5, 0.7 or 1 from the width of the focus
        peaks.
    window : int or "auto"
        Width of the window over which the focus measure is averaged, in pixels. Increase it for
        noisy stacks, decrease it for fine relief. auto selects 5, 7 or 9 from the noise and the
        width of the focus peaks.
    aggregation : str
        Spatial averaging of the focus measure: in windows that balance their texture and grow with
        the noise (adaptive), that only balance it (balanced), in plain windows (window), or with an
        edge-preserving guided filter (guided).
    peak : str
        Depth between planes, from the focus curve: a fit to the whole peak (curve), a fit to the
        three planes around the sharpest one (lorentzian, gaussian, parabola), or the position of
        the sharpest plane (argmax).
    prefer : str
        Which of several significant peaks of a focus curve gives the depth: the sharpest, the
        first or the last one along Z.
    refinement : str
        Regularization of the depth map across neighbouring pixels. none keeps the estimate of each
        pixel.
    smoothness : float
        Weight of the neighbouring pixels relative to the pixel's own focus curve. 0 turns
        refinement off.
    coherence : str
        Depth in a time-lapse: of each time alone (none), or combined with the depth of the time
        before (previous), which reduces noise and fills gaps. Steps between times of more than the
        distance of planes, or of 3 σ, are kept.
    fusion : str
        Composition of the all-in-focus image: at every scale the planes that are sharp there, near
        the depth where it is certain (multiscale); the two planes nearest to the depth, more planes
        where there is only noise (noise_aware); or the nearest plane, which keeps measured
        intensities (nearest).

    Raises
    ------
    ValueError
        For a value outside its choices or range.
    """

    registration: Registration = "joint"
    motion: Motion = "auto"
    exposure: Exposure = "auto"
    crop: Crop = "none"
    operator: Operator = "log"
    sigma: Sigma = checks.AUTO
    window: WindowWidth = checks.AUTO
    aggregation: Aggregation = "adaptive"
    peak: Peak = "curve"
    prefer: Prefer = "sharpest"
    refinement: Refinement = "message_passing+least_squares"
    smoothness: Annotated[float, SMOOTHNESS] = 1.0
    coherence: Coherence = "none"
    fusion: Fusion = "multiscale"

    def __post_init__(self) -> None:
        object.__setattr__(self, "fusion", current_fusion(self.fusion))
        for name, hint in get_type_hints(type(self), include_extras=True).items():
            if get_origin(hint) is Literal:
                checks.check_choice(name, getattr(self, name), get_args(hint))
            else:
                number = get_args(hint)[1].check(name, getattr(self, name))
                object.__setattr__(self, name, number)

    @property
    def scale(self) -> FocusScale:
        """The sigma and window; ValueError if one is to be chosen from a stack."""
        if self.sigma == checks.AUTO or self.window == checks.AUTO:
            raise ValueError(f"sigma and window must be numbers, got {self.sigma}, {self.window}")
        return FocusScale(self.sigma, self.window)

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> "Recipe":
        """Return the recipe with these settings; raise ValueError for an unknown name."""
        if not isinstance(settings, Mapping):
            raise ValueError(f"recipe must map names to values, got {shorten(settings)}")
        names = [field.name for field in fields(cls)]
        for name in settings:
            if name not in names:
                matches = difflib.get_close_matches(str(name), names, n=1)
                hint = f"; did you mean {matches[0]!r}?" if matches else f" ({', '.join(names)})"
                raise ValueError(f"recipe has no setting {shorten(name)}{hint}")
        return cls(**settings)

    def flags(self) -> list[str]:
        """Return the command-line flags of all settings that differ from their defaults."""
        values = [(field, getattr(self, field.name)) for field in fields(self)]
        changed = [(f"--{field.name}", str(v)) for field, v in values if v != field.default]
        return [word for pair in changed for word in pair]
