"""Which part of a stack is projected along a surface, and how."""

from dataclasses import dataclass
from typing import Literal, get_args

from napari_dff.model import checks

SlabMethod = Literal["maximum", "mean", "sum", "standard_deviation"]
OFFSET_RANGE = checks.Range(-checks.MAX_MAGNITUDE, checks.MAX_MAGNITUDE, 1.0)


@dataclass(frozen=True)
class SlabProjection:
    """A slab that follows a surface, or several parallel ones, and how their values are joined.

    Parameters
    ----------
    slab : (float, float), optional
        Offsets from the depth at which the slab begins and ends, in the unit of the positions;
        None: one distance of planes on either side.
    offsets : tuple of float
        Offset of each of several parallel slabs, rising; empty: one slab, at offset 0.
    method : {"maximum", "mean", "sum", "standard_deviation"}
        How the values in the slab are joined.

    Raises
    ------
    ValueError
        If a value is invalid.
    """

    slab: tuple[float, float] | None = None
    offsets: tuple[float, ...] = ()
    method: SlabMethod = "maximum"

    def __post_init__(self) -> None:
        checks.check_choice("method", self.method, get_args(SlabMethod))
        values = checks.as_list("offsets", self.offsets, "numbers")
        offsets = tuple(OFFSET_RANGE.check("offsets", each) for each in values)
        if list(offsets) != sorted(set(offsets)):
            raise ValueError(f"offsets must rise from one to the next, got {offsets}")
        object.__setattr__(self, "offsets", offsets)
        if self.slab is None:
            return
        ends = checks.as_list("slab", self.slab, "two offsets, the lower one first")
        slab = tuple(OFFSET_RANGE.check("slab", each) for each in ends)
        if len(slab) != 2 or slab[0] > slab[1]:
            raise ValueError(f"slab must be two offsets, the lower one first, got {slab}")
        if slab[0] == slab[1] and self.method in ("sum", "standard_deviation"):
            raise ValueError(
                f"slab must be thicker than 0 for the method {self.method}, got {slab}"
            )
        object.__setattr__(self, "slab", slab)

    def limits(self, spacing: float) -> list[tuple[float, float]]:
        """Return the offsets at which each slab begins and ends; `spacing` is that of planes."""
        low, high = (-spacing, spacing) if self.slab is None else self.slab
        return [(low + offset, high + offset) for offset in self.offsets or (0.0,)]
