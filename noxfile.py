"""What the project promises to run with: `nox` does all of it that this machine has Pythons for."""

import json
import os
from pathlib import Path

import nox

nox.needs_version = ">=2024.10"
nox.options.default_venv_backend = "uv"
nox.options.error_on_missing_interpreters = False
nox.options.download_python = "never"

# Pythons of pyenv that are there but not chosen; its own stand-ins of that name only complain.
PYTHONS = sorted(Path.home().glob(".pyenv/versions/3.*/bin"))
os.environ["PATH"] = os.pathsep.join([*map(str, PYTHONS), os.environ["PATH"]])
os.environ["UV_COMPILE_BYTECODE"] = "1"  # or every process compiles all that it imports
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
QTS = {"pyqt6": ("pyqt6", "pyqt6-qt6", "pyqt6-sip"), "pyside6": ("pyside6-essentials",)}


def prepared(session: nox.Session, *arguments: str) -> dict[str, str]:
    """Install the project and what its tests need; gives the environment to run them in."""
    session.install("-e", ".[test]", *arguments)
    # A compiler may be missing; tests of the graph cut are skipped then, as the program says.
    session.install("gco-wrapper==3.0.9", success_codes=range(256), silent=True)
    return {"NUMBA_CACHE_DIR": str(Path(session.create_tmp(), "kernels").resolve())}


@nox.session(python=["3.11", "3.12", "3.13"])
@nox.parametrize("qt", list(QTS), ids=list(QTS))
def tests(session: nox.Session, qt: str) -> None:
    """The suite with the newest of everything, on one binding of Qt."""
    environment = prepared(session)
    if qt != "pyqt6":
        session.install(*QTS[qt])
        session.run_install("uv", "pip", "uninstall", *QTS["pyqt6"])
    session.run("pytest", *session.posargs, env=environment)


@nox.session(python="3.11")
def lowest(session: nox.Session) -> None:
    """The suite with the lowest of every library that pyproject.toml allows."""
    low = Path(session.create_tmp(), "lowest.txt")
    session.run_install(
        *("uv", "pip", "compile", "--quiet", "--resolution", "lowest-direct"),
        *("--python-version", "3.11", "pyproject.toml", "--output-file", str(low)),
    )
    session.run("pytest", *session.posargs, env=prepared(session, "-c", str(low)))


@nox.session(python=["3.13"])
def coverage(session: nox.Session) -> None:
    """How many lines the suite runs, in all threads and processes.

    Python 3.12 is the first that sees those of Qt. Kernels are seen as plain Python, in which an
    index outside an array is an error too.
    """
    environment = {**prepared(session), "COVERAGE_CORE": "sysmon"}
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", *session.posargs, env=environment)
    environment["NUMBA_DISABLE_JIT"] = "1"
    kernels = (f"tests/test_{name}.py" for name in ("kernels", "energy", "warp"))
    session.run("coverage", "run", "-m", "pytest", *kernels, env=environment)
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report")


@nox.session(python="3.11")
def licences(session: nox.Session) -> None:
    """Nothing that `pip install napari-dff` brings is under a licence of the GPL's family."""
    session.install(".", "pip-licenses")
    told = ("--summary", "--from=mixed", "--partial-match")
    session.run("pip-licenses", *told, "--fail-on=GPL;General Public;Affero")


@nox.session(python="3.11")
def audit(session: nox.Session) -> None:
    """No library that `pip install napari-dff` brings is known to be open to attack."""
    session.install(".", "pip-audit")
    told = Path(session.create_tmp(), "audit.json")
    session.run("pip-audit", "--format=json", f"--output={told}", success_codes=[0, 1], silent=True)
    found = json.loads(told.read_text())["dependencies"]
    weak = [each for each in found if each.get("vulns")]
    if weak:
        session.error(json.dumps(weak, indent=1))
    if not any("vulns" in each for each in found):
        session.skip("the registry here doesn't tell what is known of its libraries")
