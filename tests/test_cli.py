import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import tifffile

import napari_dff
from napari_dff import PRESETS, Recipe
from napari_dff.cli.options import read_recipe_option
from napari_dff.cli.program import main
from napari_dff.io import read_recipe, sample_path, write_recipe

BARE_PATCH = str(sample_path("bare_patch"))
FAST_OPTIONS = ["--registration", "none", "--refinement", "none", "--quiet"]


def test_importing_loads_no_qt_and_no_napari():
    code = (
        "import sys, napari_dff, napari_dff.cli.program;"
        "napari_dff.depth_from_focus; napari_dff.align;"
        "print([m for m in ('napari', 'qtpy', 'magicgui') if m in sys.modules])"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert process.stdout.strip() == "[]"


def test_help_loads_no_numerical_libraries():
    code = (
        "import sys, contextlib, io; import napari_dff; from napari_dff.cli.program import main\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n"
        "    main(['run', '--help'])\n"
        "print([m for m in ('numpy', 'numba', 'cv2', 'scipy', 'matplotlib') if m in sys.modules])"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert process.stdout.strip() == "[]"


def test_a_run_starts_without_linear_algebra_of_scipy_and_without_threads_of_openblas(tmp_path):
    code = (
        "import os, sys; from napari_dff.cli.program import main; "
        f"main(['run', '{(tmp_path / 'none.tif').as_posix()}', '--out', 'unused']); "
        "print('numpy' in sys.modules, 'scipy.linalg' in sys.modules, "
        "os.environ['OPENBLAS_NUM_THREADS'])"
    )
    environment = {k: v for k, v in os.environ.items() if k != "OPENBLAS_NUM_THREADS"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == ["True", "False", "1"]


def test_a_preset_is_a_recipe_by_its_name():
    for name, preset in PRESETS.items():
        arguments = ["run", "stack", "--out", "x", "--recipe", name]
        assert read_recipe_option(arguments) == read_recipe(name) == preset.recipe


def test_every_choice_of_the_recipe_has_a_function():
    from napari_dff import focus, refinement
    from napari_dff.curve.peak import PEAK_MODELS
    from napari_dff.curve.search import PREFERENCES
    from napari_dff.fusion import fuse as fusion
    from napari_dff.model import recipe
    from napari_dff.registration.matching import MATCHERS
    from napari_dff.registration.motion import MOTIONS

    assert set(get_args(recipe.Operator)) == set(focus.OPERATORS)
    assert set(get_args(recipe.Aggregation)) == set(focus.AGGREGATIONS)
    assert set(get_args(recipe.Peak)) == set(PEAK_MODELS)
    assert set(get_args(recipe.Prefer)) == set(PREFERENCES)
    assert set(get_args(recipe.Fusion)) == set(fusion.FUSIONS)
    assert set(get_args(recipe.Registration)) == {"none", *MATCHERS}
    assert set(get_args(recipe.Motion)) == {"auto", *MOTIONS}
    steps = {step for name in get_args(recipe.Refinement) for step in name.split("+")}
    assert steps == {"none", *refinement.REFINEMENTS}


def test_every_setting_is_a_flag_with_its_default(capsys):
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for field in dataclasses.fields(Recipe):
        flag = text.index(f"--{field.name} ")
        assert f"(default: {field.default})" in text[flag:].split(" --")[0]


def test_run_writes_all_result_files(tmp_path, capsys):
    out = tmp_path / "new folder" / "ergebnis ü"
    assert main(["run", BARE_PATCH, "--out", str(out), *FAST_OPTIONS[:-1]]) == 0
    assert {p.name for p in out.iterdir()} == {
        "depth.ome.tif", "index.ome.tif", "uncertainty.ome.tif", "all_in_focus.ome.tif",
        "recipe.json", "preview.png", "provenance.json", "transforms.json",
    }  # fmt: skip
    output = capsys.readouterr().out
    assert "depth of" in output
    assert "edges in the all-in-focus image are not in any plane" in output
    truth = tifffile.imread(BARE_PATCH.replace(".ome.tif", ".depth.tif"))
    in_focus = np.isfinite(tifffile.imread(out / "uncertainty.ome.tif"))
    error = np.abs(tifffile.imread(out / "depth.ome.tif") - truth)[in_focus]
    assert np.median(error) < 0.1


@pytest.mark.parametrize(
    ("words", "new"),
    [(["--fusion", "pyramid"], "multiscale"), (["--fusion=linear"], "noise_aware")],
)
def test_former_fusions_are_read_as_those_that_replace_them(words, new, tmp_path):
    with pytest.warns(DeprecationWarning, match=f"use {new}"):
        assert main(["run", BARE_PATCH, "--out", str(tmp_path), *FAST_OPTIONS, *words]) == 0
    assert read_recipe(tmp_path / "recipe.json").fusion == new


def test_options_override_the_recipe_file(tmp_path):
    recipe = tmp_path / "mine.json"
    recipe.write_text('{"sigma": 1.5, "window": 11, "registration": "none", "refinement": "none"}')
    arguments = [
        "run",
        BARE_PATCH,
        "--out",
        str(tmp_path / "o"),
        "--recipe",
        str(recipe),
        "--quiet",
    ]
    assert main([*arguments, "--window", "7"]) == 0
    used = read_recipe(tmp_path / "o" / "recipe.json")
    assert (used.sigma, used.window, used.registration) == (1.5, 7, "none")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "no such", "--out", "x"], "there is no file or folder 'no such'"),
        (
            ["run", BARE_PATCH, "--out", "x", "--window", "8"],
            "window must be auto or an odd number",
        ),
        (["run", BARE_PATCH, "--out", "x", "--recipe", "no.json"], "no.json"),
        (["run", BARE_PATCH, "--out", "x", "--recipe", "makro"], "did you mean 'macro'?"),
        (["run", BARE_PATCH, "--out", "x", "--spacing", "1", "2"], "one or three positive lengths"),
        (["info", "no such"], "there is no file or folder"),
    ],
)
def test_invalid_input_is_reported_in_one_sentence_with_exit_code_2(
    arguments, message, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    try:
        code = main(arguments)
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    output = capsys.readouterr()
    assert message in " ".join((output.err + output.out).replace("│", " ").split())
    assert "Traceback" not in output.err
    assert not list(tmp_path.iterdir())


def test_transforms_of_one_run_are_used_in_another(drifting, tmp_path):
    part = str(tmp_path / "part.tif")
    tifffile.imwrite(part, drifting.stack.planes, photometric="rgb", metadata={"axes": "ZYXS"})
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    assert main(["run", part, "--out", one, "--refinement", "none", "--quiet"]) == 0
    transforms = ["--transforms", one + "/transforms.json"]
    assert main(["run", part, "--out", two, *FAST_OPTIONS, *transforms]) == 0
    for name in ("depth.ome.tif", "all_in_focus.ome.tif"):
        first, second = (tifffile.imread(f"{folder}/{name}") for folder in (one, two))
        np.testing.assert_array_equal(first, second)


def test_sample_writes_files_that_info_describes(tmp_path, capsys):
    assert main(["sample", "bare_patch", "--out", str(tmp_path)]) == 0
    assert main(["info", str(tmp_path / "bare_patch.ome.tif")]) == 0
    output = capsys.readouterr().out
    assert "20 of 224 × 224 pixels, uint8" in output
    assert "0 to 19 µm" in output
    assert len(list(tmp_path.iterdir())) == 3


def test_options_made_from_a_recipe_give_that_recipe(tmp_path):
    recipe = Recipe(window=15, sigma=2.5, operator="tenengrad", refinement="none")
    write_recipe(tmp_path / "recipe.json", recipe)
    assert read_recipe(tmp_path / "recipe.json") == recipe
    options = ["--registration", "none", *recipe.flags()]
    stack, out = str(sample_path("cell_sheet")), str(tmp_path / "out")
    assert main(["run", stack, "--out", out, "--quiet", *options]) == 0
    run = read_recipe(tmp_path / "out" / "recipe.json")
    assert run == dataclasses.replace(recipe, registration="none")
    assert Recipe().flags() == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            [],
            "a command is missing: run, batch, .*, info, sample or warm-up; see napari-dff --help",
        ),
        (["rnu", "x"], "the command must be run, .* got 'rnu'; did you mean run?"),
        (["run", "--out", "o"], "no stack is given: name a folder, a file, or the frames"),
        (["run", "x"], "run needs --out PATH; see napari-dff run --help"),
        (["run", "x", "--out"], "--out needs a value after it"),
        (
            ["run", "x", "--out", "o", "--operator", "lapacian"],
            "operator must be log, .* laplacian?",
        ),
        (["run", "x", "--out", "o", "--window", "abc"], "window must be an integer, got 'abc'"),
        (
            ["run", "x", "--out", "o", "--windw", "5"],
            "run has no option --windw 5; did you mean --window?",
        ),
        (["run", "x", "--out", "o", "--threads", "1.5"], "threads must be an integer, got '1.5'"),
        (["run", "x", "--out", "o", "--spacing", "a"], "spacing must be a number, got 'a'"),
        (["run", "x", "--out", "o", "--spacing"], "--spacing needs one or three numbers after it"),
        (["sample", "rough", "--out", "o"], "name must be all, .*; did you mean rough_surface?"),
    ],
)
def test_errors_of_the_parser_are_one_sentence_without_its_names(arguments, sentence, capsys):
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(sentence.replace("?", r"\?"), line)
    assert line.startswith("napari-dff: ")
    assert "tyro" not in line


def test_several_stacks_are_for_batch(tmp_path, capsys):
    assert main(["run", BARE_PATCH, BARE_PATCH, "--out", str(tmp_path / "o")]) == 2
    assert "or use batch for a folder of stacks" in capsys.readouterr().err
    assert main(["run", BARE_PATCH, str(tmp_path), "--out", str(tmp_path / "o")]) == 2
    assert "use batch for several stacks" in capsys.readouterr().err


def test_version_and_completion(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"napari-dff {napari_dff.__version__}\n"
    with pytest.raises(SystemExit) as stop:
        main(["--completion", "bash"])
    assert stop.value.code in (0, None)
    assert "napari-dff" in capsys.readouterr().out


def test_a_log_file_lists_what_was_done(tmp_path, capfd):
    log = tmp_path / "log.txt"
    arguments = ["run", BARE_PATCH, "--out", str(tmp_path / "o"), *FAST_OPTIONS]
    assert main([*arguments, "--log-file", str(log), "-v"]) == 0
    assert main(["info", str(tmp_path / "missing"), "--log-file", str(log)]) == 2
    text = log.read_text(encoding="utf-8")
    assert re.search(r"INFO napari-dff \S+: run .*bare_patch", text)
    assert re.search(r"DEBUG \w+.*: \d+\.\d\d s", text)
    assert "ERROR there is no file or folder" in text
    assert "Traceback" in text
    assert "DEBUG" in capfd.readouterr().err
    assert main(["info", BARE_PATCH, "--log-file", str(tmp_path / "no" / "log")]) == 2


def test_a_terminal_is_needed_for_progress_bars(tmp_path):
    command = [sys.executable, "-m", "napari_dff", "run", BARE_PATCH, "--out", str(tmp_path / "o")]
    process = subprocess.run([*command, *FAST_OPTIONS[:-1]], capture_output=True, text=True)
    assert process.returncode == 0
    assert all(
        line.startswith(("estimate:", "napari-dff:")) for line in process.stderr.splitlines()
    )


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGPIPE")
@pytest.mark.parametrize("arguments", [["--help"], ["info", BARE_PATCH]])
def test_a_reader_that_ends_early_gets_no_traceback(arguments):
    command = [sys.executable, "-m", "napari_dff", *arguments]
    read_end, write_end = os.pipe()
    os.close(read_end)
    process = subprocess.run(command, stdout=write_end, stderr=subprocess.PIPE, text=True)
    os.close(write_end)
    assert process.returncode == 0
    lines = process.stderr.splitlines()  # numcodecs 0.16 prints a deprecation
    assert [line for line in lines if "deprecated" not in line] == []


def test_commands_and_links_of_the_readme_hold_in_any_clone():
    folder = Path(__file__).parents[1]
    text = (folder / "README.md").read_text(encoding="utf-8")
    (stack,) = re.findall(r"napari-dff run (\S+\.ome\.tif)", text)
    parts = [folder / part for part in (Path(stack), *Path(stack).parents)]
    assert parts[0].is_file()
    assert not any(part.is_symlink() for part in parts)
    links = re.findall(r"\]\((.*?)\)", text)
    assert links
    assert all(link.startswith("https://") for link in links)
