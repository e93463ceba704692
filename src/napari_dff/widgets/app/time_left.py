"""How far a task is, and its time left, from the steps that it reports."""

import re
import time
from collections.abc import Callable, Sequence

from napari_dff.model.recipe import Recipe

Steps = Sequence[tuple[str, float]]  # names and durations, in any unit, in their order

# Shares in percent of runs of the default recipe on two cores: 30 planes of 1024 × 1024 pixels,
# grey and in colour, and 120 planes of 512 × 512.
ALIGNMENT: Steps = (
    ("Finding features", 9.0),
    ("Matching planes", 11.0),
    ("Checking planes", 4.0),
    ("Refining motions", 17.0),
    ("Comparing light", 2.0),
    ("Resampling", 11.0),
)
ESTIMATE: Steps = (("Finding depth", 7.0), ("Finding uncertainty", 1.0))
REFINEMENT: Steps = (
    ("Fusing", 4.0),  # the guide image
    ("Message passing", 13.0),
    ("Weights", 1.0),
    ("Couplings", 0.5),
    ("Least squares", 0.5),
)
IMAGE: Steps = (("Fusing", 15.0), ("Comparing", 3.0))
NUMBERED = re.compile(r", ([^,]*?) (\d+) of (\d+)")  # "Fusing, tile 2 of 6, time 3 of 20"
TILE = "tile"
MIN_TOTAL_S = 40.0  # of a run whose time left is shown: alignment dominates shorter ones
MIN_FRACTION = 0.2  # from which it is right within a factor of two
ROUNDING_S = (5, 60)  # of times below and above a minute


def steps_of(recipe: Recipe, stacks: int) -> Steps:
    """Return the steps of a run of all steps; none if their durations are not known."""
    twice = recipe.crop == "common" and stacks > 1  # all stacks are aligned before the first depth
    if twice or recipe.registration == "ecc" or "graph_cut" in recipe.refinement:
        return ()
    alignment = () if recipe.registration == "none" else ALIGNMENT
    refinement = () if recipe.refinement == "none" else REFINEMENT
    return (("Reading", 1.0), *alignment, *ESTIMATE, *refinement, *IMAGE)


class TimeLeft:
    """Estimates the fraction that is done and the time left of one task.

    Without `steps`, that of the step in progress.
    """

    def __init__(self, steps: Steps = (), clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._steps = clock, steps
        self._start_s = clock()
        self._step, self._place = "", 0
        self.fraction = 0.0

    def update(self, desc: str, i: int, count: int) -> None:
        """Take in that `i` of `count` items of the step `desc` are done."""
        name, numbers = desc.split(",")[0], NUMBERED.findall(desc)
        if desc != self._step and not self._steps:
            self._start_s = self._clock()
        if not self._steps:
            self._step, self.fraction = desc, i / max(count, 1)
            return
        if NUMBERED.findall(self._step) != numbers:
            self._place = 0
        self._step = desc
        names = [step for step, _ in self._steps]
        if name in names[self._place :]:
            self._place = names.index(name, self._place)
        durations = [duration for _, duration in self._steps]
        done = sum(durations[: self._place])
        if name == names[self._place]:
            done += durations[self._place] * i / max(count, 1)
        fraction = self._with_numbers(done / sum(durations), numbers)
        self.fraction = max(self.fraction, fraction)

    def _with_numbers(self, fraction: float, numbers: list[tuple[str, str, str]]) -> float:
        """Return the fraction of all stacks and tiles from that of one stack in one tile."""
        total = sum(duration for _, duration in self._steps)
        common = 0.0  # of all tiles
        for name, duration in self._steps:
            if name == ESTIMATE[0][0]:
                break
            common += duration / total
        for kind, number, count in numbers:  # the innermost first
            first = common if kind == TILE else 0.0
            inner = max(fraction - first, 0.0)
            fraction = first + (int(number) - 1) * (1 - first) / int(count) + inner / int(count)
        return fraction

    def in_words(self) -> str:
        """Return the time left as "about 20 s left"; "" as long as it is not known."""
        elapsed = self._clock() - self._start_s
        if self.fraction < MIN_FRACTION or elapsed / self.fraction < MIN_TOTAL_S:
            return ""
        left = elapsed * (1 - self.fraction) / self.fraction
        step, minute = ROUNDING_S
        if left < minute:
            words = f"about {max(step, round(left / step) * step)} s left"
        else:
            words = f"about {round(left / minute)} min left"
        return words if self._steps else f"{words} in this step"
