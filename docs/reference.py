"""MkDocs hook: help of the command line and tables of settings, generated from the code.

In a page, ``<!-- help run -->`` becomes what ``napari-dff run --help`` prints,
``<!-- settings -->`` the table of all settings of `Recipe`, and ``<!-- operators -->`` that of all
focus operators.
"""

import inspect
import os
import re
import subprocess
import sys
from dataclasses import fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

import docstring_parser

from napari_dff.focus import OPERATORS
from napari_dff.model.checks import Range
from napari_dff.model.recipe import Recipe
from napari_dff.widgets.app.labels import SETTINGS

MARKER = re.compile(r"^<!-- (?:help ([\w-]+)|(settings)|operators) -->$", re.MULTILINE)
DOI = re.compile(r"doi:(10\.[^\s<]*[^\s<.,;)])")
REFERENCES = re.compile(r"(?<=<summary>References</summary>).*?(?=</details>)", re.DOTALL)
PLAIN = {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb", "PYTHONUTF8": "1"}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the markers of a page (called by MkDocs)."""

    def text(match: re.Match[str]) -> str:
        return command_help(match[1]) if match[1] else settings() if match[2] else operators()

    return MARKER.sub(text, markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Put each reference on a line of its own, and link each DOI (called by MkDocs)."""
    html = REFERENCES.sub(lambda match: match[0].replace(").\n", ").<br>\n"), html)
    return DOI.sub(r'<a href="https://doi.org/\1">doi:\1</a>', html)


def command_help(command: str) -> str:
    """Return the output of ``napari-dff COMMAND --help``, 100 columns wide, as a code block."""
    words = [sys.executable, "-m", "napari_dff", command, "--help"]
    environment = {k: v for k, v in os.environ.items() if k != "FORCE_COLOR"} | PLAIN
    ran = subprocess.run(words, env=environment, capture_output=True, encoding="utf-8", check=True)
    return f"```text\n{ran.stdout.strip()}\n```"


def settings() -> str:
    """Return the table of all settings: name, label, choices, default and description."""
    descriptions = {
        p.arg_name: p.description for p in docstring_parser.parse(str(Recipe.__doc__)).params
    }
    kinds = get_type_hints(Recipe, include_extras=True)
    rows = ["| setting | in napari | values | default | meaning |", "|---|---|---|---|---|"]
    for field in fields(Recipe):
        meaning = " ".join(str(descriptions[field.name]).split())
        name, default = nowrap(field.name), nowrap(str(field.default))
        values = allowed(kinds[field.name])
        rows.append(f"| {name} | {SETTINGS[field.name]} | {values} | {default} | {meaning} |")
    return "\n".join(rows)


def operators() -> str:
    """Return the table of all focus operators: name, description and source."""
    rows = ["| operator | measure | details and source |", "|---|---|---|"]
    for name, operator in OPERATORS.items():
        docstring = inspect.getdoc(operator) or ""
        first, _, rest = (part.replace("|", r"\|") for part in docstring.partition("\n\n"))
        rows.append(f"| {nowrap(name)} | {' '.join(first.split())} | {' '.join(rest.split())} |")
    return "\n".join(rows)


def nowrap(word: str) -> str:
    """Return `word` as code without line breaks."""
    return f'<code style="white-space: nowrap">{word}</code>'


def allowed(kind: Any) -> str:
    """Return choices or range of a setting, from its annotation."""
    if get_origin(kind) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(kind))
    limits = next(each for each in get_args(kind) if isinstance(each, Range))
    return f"{limits.kind} from {limits.low:g} to {limits.high:g}"
