#!/usr/bin/env -S uv run --script
# /// script
# dependencies = ["nox[uv]>=2024.10"]
# ///
"""Test sessions for all supported versions. `nox` runs those whose Python is installed."""

import json
import os
from pathlib import Path

import nox

nox.needs_version = ">=2024.10"
nox.options.default_venv_backend = "uv"
nox.options.error_on_missing_interpreters = False
nox.options.download_python = "never"

# Pythons of pyenv that are installed but not active; the shims of pyenv fail for them.
PYTHONS = sorted(Path.home().glob(".pyenv/versions/3.*/bin"))
os.environ["PATH"] = os.pathsep.join([*map(str, PYTHONS), os.environ["PATH"]])
os.environ["UV_COMPILE_BYTECODE"] = "1"  # otherwise every process compiles all modules
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
QTS = {"pyqt6": ("pyqt6", "pyqt6-qt6", "pyqt6-sip"), "pyside6": ("pyside6-essentials",)}


def install(session: nox.Session, *arguments: str) -> dict[str, str]:
    """Install the project with its test dependencies, and return the environment variables."""
    session.install("-e", ".[test]", *arguments)
    # Without a compiler this fails, and the tests of the graph cut are skipped.
    session.install("gco-wrapper==3.0.9", success_codes=range(256), silent=True)
    return {"NUMBA_CACHE_DIR": str(Path(session.create_tmp(), "kernels").resolve())}


def replace_qt(session: nox.Session, qt: str) -> None:
    """Install a binding of Qt in the place of PyQt6."""
    if qt != "pyqt6":
        session.install(*QTS[qt])
        session.run_install("uv", "pip", "uninstall", *QTS["pyqt6"])


@nox.session(python=["3.11", "3.12", "3.13", "3.14"])
@nox.parametrize("qt", list(QTS), ids=list(QTS))
def tests(session: nox.Session, qt: str) -> None:
    """Run the suite with the newest dependencies and one Qt binding."""
    environment = install(session)
    replace_qt(session, qt)
    session.run("pytest", *session.posargs, env=environment)


@nox.session(python="3.11")
def lowest(session: nox.Session) -> None:
    """Run the suite with the oldest dependencies that pyproject.toml allows."""
    low = Path(session.create_tmp(), "lowest.txt")
    session.run_install(
        *("uv", "pip", "compile", "--quiet", "--resolution", "lowest-direct"),
        *("--extra", "napari"),
        *("--python-version", "3.11", "pyproject.toml", "--output-file", str(low)),
    )
    session.run("pytest", *session.posargs, env=install(session, "-c", str(low)))


@nox.session(python=["3.12", "3.13"])
def coverage(session: nox.Session) -> None:
    """Measure line coverage, in all threads and processes: in two sessions, each test once.

    Python 3.12, the first that traces threads of Qt, runs the tests of the widgets, with PySide6.
    Python 3.13 runs a few of them with PyQt6 and all others, and reports. There, kernels are traced
    as Python functions, in which an index outside an array is also an error.
    """
    environment = {**install(session), "COVERAGE_CORE": "sysmon"}

    def run(*arguments: str) -> None:
        session.run("coverage", "run", "-m", "pytest", *arguments, env=environment)

    if session.python == "3.12":
        replace_qt(session, "pyside6")
        session.run("coverage", "erase")
        run(*session.posargs, "tests/widgets")
        return
    others = sorted(map(str, Path("tests").glob("test_*.py")))
    run(*session.posargs, *others, "tests/widgets/test_first_minutes.py")
    environment["NUMBA_DISABLE_JIT"] = "1"
    run(*(f"tests/test_{name}.py" for name in ("kernels", "energy", "warp")))
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report")


@nox.session(python="3.11")
def licences(session: nox.Session) -> None:
    """Check that the package with the extra `napari` brings no licence of the GPL family."""
    session.install(".[napari]", "pip-licenses")
    options = ("--summary", "--from=mixed", "--partial-match")
    session.run("pip-licenses", *options, "--fail-on=GPL;General Public;Affero")


@nox.session(python="3.11")
def audit(session: nox.Session) -> None:
    """Check the dependencies of `pip install 'napari-dff[napari]'` for known vulnerabilities."""
    session.install(".[napari]", "pip-audit")
    report = Path(session.create_tmp(), "audit.json")
    session.run(
        "pip-audit", "--format=json", f"--output={report}", success_codes=[0, 1], silent=True
    )
    dependencies = json.loads(report.read_text())["dependencies"]
    vulnerable = [each for each in dependencies if each.get("vulns")]
    if vulnerable:
        session.error(json.dumps(vulnerable, indent=1))
    if not any("vulns" in each for each in dependencies):
        session.skip("the package index has no information on vulnerabilities")


if __name__ == "__main__":
    nox.main()
