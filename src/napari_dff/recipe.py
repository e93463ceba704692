"""Everything a person can set: the choices, their ranges and their defaults, said once.

The rooms take their names from here, so that reading a recipe, or showing the help of the command
line, loads no numerics.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from napari_dff import checks

Registration = Literal["joint", "sift", "ecc", "none"]
Motion = Literal["auto", "translation", "similarity", "affine", "homography"]
Exposure = Literal["keep", "equal"]
Operator = Literal[
    "log",
    "laplacian",
    "modified_laplacian",
    "diagonal_laplacian",
    "laplacian_variance",
    "ring_difference",
    "tenengrad",
    "tenengrad_variance",
    "gradient_energy",
    "gaussian_derivative",
    "brenner",
    "wavelet_sum",
    "wavelet_variance",
    "wavelet_ratio",
    "variance",
    "normalised_variance",
    "third_moment",
    "vollath",
    "dct_energy",
    "dct_reduced",
    "helmli",
    "steerable",
    "contrast",
    "curvature",
]
SIGMA = checks.Range(0.0, 32.0, 0.1)  # pixels
WINDOW = checks.Range(1, 255, 2)  # pixels
Aggregation = Literal["adaptive", "balanced", "window", "guided"]
Peak = Literal["curve", "lorentzian", "gaussian", "parabola", "argmax"]
Prefer = Literal["sharpest", "first", "last"]
Refinement = Literal[
    "message_passing+least_squares",
    "graph_cut+weighted_median",
    "message_passing",
    "graph_cut",
    "least_squares",
    "weighted_median",
    "none",
]
SMOOTHNESS = checks.Range(0.0, 100.0, 0.1)
Fusion = Literal["noise_aware", "linear", "nearest", "pyramid"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything a person can set, checked when made.

    Parameters
    ----------
    registration : str
        How planes are aligned: by features and then grey levels of all near neighbours (joint), by
        features alone (sift), by grey levels from plane to plane (ecc), or not (none).
    motion : str
        What one plane may do against the next; auto takes the simplest that explains all.
    exposure : str
        Leave the light of each plane (keep), or bring all to that of the middle one (equal).
    operator : str
        What counts as sharp.
    sigma : float
        Gaussian before the operator, in pixels: more for noisy stacks and coarse texture.
    window : int
        Width over which sharpness is averaged, in pixels: more for noise, less for fine relief.
    aggregation : str
        How it is averaged: windows that balance their texture and grow with the noise (adaptive),
        that only balance it (balanced), plain ones (window), or along edges (guided).
    peak : str
        How depth is read off the focus curve: between planes by all of its peak (curve), by the
        three planes around the sharpest, or as that plane (argmax).
    prefer : str
        Which peak where there are several: the sharpest, or that of the first or last plane.
    refinement : str
        What makes neighbours agree; none leaves the estimate as it is.
    smoothness : float
        How much neighbours count against the pixel's own focus curve; 0 is not at all.
    fusion : str
        How planes become the all-in-focus image: two mixed, more where there is only noise
        (noise_aware), always two (linear), one (nearest), or a Laplacian pyramid.

    Raises
    ------
    ValueError
        For a value outside its choices or range, with one sentence.
    """

    registration: Registration = "joint"
    motion: Motion = "auto"
    exposure: Exposure = "keep"
    operator: Operator = "log"
    sigma: Annotated[float, SIGMA] = 1.0
    window: Annotated[int, WINDOW] = 9
    aggregation: Aggregation = "adaptive"
    peak: Peak = "curve"
    prefer: Prefer = "sharpest"
    refinement: Refinement = "message_passing+least_squares"
    smoothness: Annotated[float, SMOOTHNESS] = 1.0
    fusion: Fusion = "noise_aware"

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(type(self), include_extras=True).items():
            if get_origin(kind) is Literal:
                checks.one_of(name, getattr(self, name), get_args(kind))
            else:
                plain = get_args(kind)[1].check(name, getattr(self, name))
                object.__setattr__(self, name, plain)

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> "Recipe":
        """Recipe from names and values; ValueError for a name that isn't a setting."""
        if not isinstance(settings, Mapping):
            raise ValueError(f"recipe must be names with values, got {settings!r}")
        known = [field.name for field in fields(cls)]
        for name in settings:
            if name not in known:
                near = difflib.get_close_matches(str(name), known, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else f" ({', '.join(known)})"
                raise ValueError(f"recipe has no setting {name!r}{hint}")
        return cls(**settings)

    def flags(self) -> list[str]:
        """The words of the command line that make this recipe of the defaults."""
        changed = [field for field in fields(self) if getattr(self, field.name) != field.default]
        return [
            word
            for field in changed
            for word in (f"--{field.name}", str(getattr(self, field.name)))
        ]
