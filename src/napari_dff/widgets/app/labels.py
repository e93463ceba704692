"""What the forms call the settings of a recipe and their choices, in words of microscopy."""

from napari_dff.model.checks import AUTO

SETTINGS = {  # field of `Recipe` → label
    "registration": "align planes",
    "motion": "motion",
    "exposure": "brightness",
    "crop": "area",
    "operator": "sharpness measure",
    "sigma": "pre-filter σ (px)",
    "window": "window (px)",
    "aggregation": "averaging",
    "peak": "sub-plane depth",
    "prefer": "of several peaks",
    "refinement": "smooth depth",
    "smoothness": "smoothing weight",
    "coherence": "over time",
    "fusion": "sharp image",
}
CHOICES = {  # field → value in the recipe → label and explanation
    "registration": {
        "joint": ("automatic", "Features, then the grey levels of all near planes together."),
        "sift": ("features", "Features from plane to plane: where light or stain changes."),
        "ecc": ("grey levels", "Grey levels from plane to plane: where features are missing."),
        "none": ("off", "The planes fit already: a motorized stage without drift. Fastest."),
    },
    "motion": {
        "auto": ("automatic", "The simplest motion that explains the matches of all planes."),
        "translation": ("shift", "Planes only shift: a telecentric lens."),
        "similarity": ("shift, rotation, scale", "Also focus breathing: a microscope, a rail."),
        "affine": ("and shear (affine)", "Also different scales along the axes."),
        "homography": ("and perspective", "Also tilt: a camera held by hand."),
    },
    "exposure": {
        "auto": ("equalized if light drifts", "Where all of a plane brightens or dims alike."),
        "keep": ("as recorded", "Grey levels are kept, where brightness changes with focus."),
        "equal": ("equalized", "Every plane gets the brightness of the middle plane."),
    },
    "crop": {
        "none": ("whole planes", "Results cover the planes, also where some have no data."),
        "common": ("common to all planes", "Only where all aligned planes have data."),
    },
    "operator": {
        "log": ("Laplacian of Gaussian (general)", "Fine texture; best on most samples."),
        "laplacian": ("Laplacian", "The finest texture, without pre-filter: for clean images."),
        "modified_laplacian": ("modified Laplacian", "Absolute second differences."),
        "diagonal_laplacian": ("Laplacian with diagonals", "Also second differences on diagonals."),
        "laplacian_variance": ("variance of Laplacian", "Its variance in the window."),
        "ring_difference": ("ring difference", "Inner disc minus outer ring."),
        "tenengrad": ("Tenengrad (Sobel gradient)", "Coarser texture; robust against noise."),
        "tenengrad_variance": ("variance of Tenengrad", "Variance of the Sobel gradient."),
        "gradient_energy": ("gradient energy", "Differences of neighbours; robust against noise."),
        "gaussian_derivative": ("Gaussian derivative", "Gradient after smoothing; noisy images."),
        "brenner": ("Brenner", "Differences over two pixels: for fluorescence autofocus."),
        "wavelet_sum": ("wavelet details, sum", "Details of the db2 wavelet."),
        "wavelet_variance": ("wavelet details, variance", "Variance of these details."),
        "wavelet_ratio": ("wavelet details, ratio", "Relative to coarse parts; clean images."),
        "variance": ("grey-level variance", "Contrast in the window, also of coarse texture."),
        "normalised_variance": ("variance over mean", "Independent of flickering light."),
        "third_moment": ("third moment", "Strong details weigh more than in the variance."),
        "vollath": ("Vollath autocorrelation", "Decrease of the autocorrelation with distance."),
        "dct_energy": ("cosine transform, energy", "All frequencies of 4 × 4 pixels."),
        "dct_reduced": ("cosine transform, ratio", "Middle over lowest frequencies; clean images."),
        "helmli": ("Helmli mean ratio", "Pixel over local mean, independent of flickering light."),
        "steerable": ("steerable filters", "Strongest of eight directions."),
        "contrast": ("local contrast", "Mean difference to the eight neighbours."),
        "curvature": ("curvature of grey levels", "Of a surface fitted to 3 × 3 pixels."),
    },
    "aggregation": {
        "adaptive": ("adaptive windows", "Balanced, and wider where there is noise."),
        "balanced": ("balanced windows", "Centred on their texture; one width."),
        "window": ("plain windows", "The same window everywhere, as in other programs."),
        "guided": ("edge-preserving", "A guided filter: flat parts with sharp outlines."),
    },
    "peak": {
        "curve": ("fit of the whole peak", "All planes of the peak, weighted by their noise."),
        "lorentzian": ("fit of 3 planes, Lorentzian", "Squared Lorentzian, for fine texture."),
        "gaussian": ("fit of 3 planes, Gaussian", "The usual model."),
        "parabola": ("fit of 3 planes, parabola", "For a flat peak."),
        "argmax": ("off: the sharpest plane", "No depth between planes."),
    },
    "prefer": {
        "sharpest": ("the sharpest", "The highest peak of the focus curve."),
        "first": ("the first along Z", "One side of a transparent sample."),
        "last": ("the last along Z", "The other side of a transparent sample."),
    },
    "refinement": {
        "message_passing+least_squares": (
            "standard",
            "Planes of all pixels together, then slopes.",
        ),
        "graph_cut+weighted_median": ("graph cut", "Then a weighted median; needs gco-wrapper."),
        "message_passing": ("standard, planes only", "Keeps steps; no slopes between planes."),
        "graph_cut": ("graph cut, planes only", "Needs gco-wrapper."),
        "least_squares": ("slopes only", "Clean stacks: pixels stay near their own plane."),
        "weighted_median": ("weighted median only", "Clean stacks with sharp steps."),
        "none": ("off", "The measured depth of each pixel."),
    },
    "coherence": {
        "none": ("each time alone", "Depth of a time does not depend on the others."),
        "previous": ("with the time before", "Less noise, fewer gaps; jumps are kept."),
    },
    "fusion": {
        "multiscale": ("sharpest at every scale", "General; near the depth where it is certain."),
        "noise_aware": ("low noise", "Near planes are averaged where there is only noise."),
        "nearest": ("measured intensities", "The plane at the depth, unchanged: to measure grey."),
    },
}


def choice_label(field: str, value: object) -> str:
    """Return what a form shows for a value of a recipe field, also for one of another version."""
    other = "automatic" if value == AUTO else str(value)
    label, _ = CHOICES.get(field, {}).get(str(value), (other, ""))
    return label
