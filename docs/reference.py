"""Hook of mkdocs: the help of the command line and tables of choices, read off the code.

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

from napari_dff.checks import Range
from napari_dff.focus import OPERATORS
from napari_dff.recipe import Recipe

MARKER = re.compile(r"^<!-- (?:help (\w+)|(settings)|operators) -->$", re.MULTILINE)
DOI = re.compile(r"doi:(10\.[^\s<]*[^\s<.,;)])")
REFERENCES = re.compile(r"(?<=<summary>References</summary>).*?(?=</details>)", re.DOTALL)
PLAIN = {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb", "PYTHONUTF8": "1"}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by mkdocs for every page: put text from the code where the page has a marker."""

    def text(found: re.Match[str]) -> str:
        return command_help(found[1]) if found[1] else settings() if found[2] else operators()

    return MARKER.sub(text, markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Called by mkdocs for every page: one reference a line, each DOI a link."""
    html = REFERENCES.sub(lambda found: found[0].replace(").\n", ").<br>\n"), html)
    return DOI.sub(r'<a href="https://doi.org/\1">doi:\1</a>', html)


def command_help(command: str) -> str:
    """What ``napari-dff COMMAND --help`` prints, 100 columns wide, as a code block."""
    words = [sys.executable, "-m", "napari_dff.cli", command, "--help"]
    environment = {k: v for k, v in os.environ.items() if k != "FORCE_COLOR"} | PLAIN
    ran = subprocess.run(words, env=environment, capture_output=True, encoding="utf-8", check=True)
    return f"```text\n{ran.stdout.strip()}\n```"


def settings() -> str:
    """All settings of `Recipe`: name, what it may be, default and what its docstring says."""
    told = {p.arg_name: p.description for p in docstring_parser.parse(str(Recipe.__doc__)).params}
    kinds = get_type_hints(Recipe, include_extras=True)
    rows = ["| setting | may be | default | what it does |", "|---|---|---|---|"]
    for field in fields(Recipe):
        meaning = " ".join(str(told[field.name]).split())
        name, default = unbroken(field.name), unbroken(str(field.default))
        rows.append(f"| {name} | {allowed(kinds[field.name])} | {default} | {meaning} |")
    return "\n".join(rows)


def operators() -> str:
    """All focus operators: name and what the docstring says, source included."""
    rows = ["| operator | what it measures | more, and source |", "|---|---|---|"]
    for name, operator in OPERATORS.items():
        told = inspect.getdoc(operator) or ""
        first, _, rest = (part.replace("|", r"\|") for part in told.partition("\n\n"))
        rows.append(f"| {unbroken(name)} | {' '.join(first.split())} | {' '.join(rest.split())} |")
    return "\n".join(rows)


def unbroken(word: str) -> str:
    """`word` as code that a narrow column doesn't break."""
    return f'<code style="white-space: nowrap">{word}</code>'


def allowed(kind: Any) -> str:
    """Choices or range of a setting, from its annotation."""
    if get_origin(kind) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(kind))
    limits = next(each for each in get_args(kind) if isinstance(each, Range))
    return f"{limits.kind} from {limits.low:g} to {limits.high:g}"
