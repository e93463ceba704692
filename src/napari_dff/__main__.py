"""The command line, as ``python -m napari_dff``."""

from napari_dff.cli.program import program

program()
