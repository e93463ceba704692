"""Warm-up: all kernels are compiled before the first run."""

from napari_dff.cli.program import main
from napari_dff.pipeline import warm_up


def test_the_command_computes_small_stacks_of_all_kinds_of_planes(monkeypatch, capsys):
    kinds = []
    monkeypatch.setattr(
        warm_up,
        "depth_from_focus",
        lambda stack, recipe: kinds.append(
            (stack.planes.dtype.name, stack.planes.ndim, recipe.refinement)
        ),
    )
    assert main(["warm-up"]) == 0
    default = "message_passing+least_squares"
    assert kinds == [
        ("uint8", 3, default),
        ("uint16", 3, default),
        ("float32", 3, default),
        ("uint8", 4, default),
        ("uint16", 4, default),
        ("uint8", 3, "weighted_median"),
    ]
    assert "all kernels are compiled" in capsys.readouterr().out
