"""Names and sentences of the source follow the language rules of CONTRIBUTING.md."""

import ast
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "napari_dff"

# Whole identifiers that are not nouns, verbs or noun phrases: participles, adjectives, adverbs and
# pronouns. In a longer name, such as `known_pixels`, the same words are correct.
WORDS = """
afresh alike apart asked before begun beside ended enough few found given glance gone heard heeding
held kept known lean little made mine moved ours said seen still stuff sway taken things together
told unread unsaid untold what who whole
"""
NAMES = frozenset(WORDS.split())
DEPRECATED = {("sequence.py", "before")}  # an argument that warns

# Sentences in which data or programs behave like people.
METAPHORS = re.compile(
    r"\b(tells?|told|says|said|hears?|heard|speaks?|spoke|listens?|obeys?|obeyed|heeds?|heeded|begs?"
    r"|trusts?|believes?|believed|sways?|whispers?|nobody|somebody|whoever|wants?|forgets?|thinks?)\b",
    re.IGNORECASE,
)

FILES = sorted(SOURCE.rglob("*.py"))


def identifiers(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and name of everything that the module defines or assigns."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.lineno, node.name
            case ast.arg():
                yield node.lineno, node.arg
            case ast.Name(ctx=ast.Store()):
                yield node.lineno, node.id
            case ast.Attribute(ctx=ast.Store()):
                yield node.lineno, node.attr


def sentences(path: Path, tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and text of docstrings and comments."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            text = ast.get_docstring(node, clean=False)
            if text:
                first = node.body[0].lineno
                yield from ((first + k, line) for k, line in enumerate(text.splitlines()))
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type == tokenize.COMMENT:
                yield token.start[0], token.string


def violations(path: Path) -> list[str]:
    """Return a line for each name and sentence that the rules do not allow."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    lines = [
        f"{path.name}:{line}: name {name!r}"
        for line, name in identifiers(tree)
        if name.strip("_").lower() in NAMES and (path.name, name) not in DEPRECATED
    ]
    for line, text in sentences(path, tree):
        if metaphor := METAPHORS.search(text):
            lines.append(f"{path.name}:{line}: {metaphor[0]!r} in {text.strip()!r}")
    return lines


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_source_has_no_metaphors_and_no_bare_participles(path):
    assert violations(path) == []


@pytest.mark.parametrize(
    ("code", "violation"),
    [
        ("told = 1\n", "name 'told'"),
        ("def f(given):\n    pass\n", "name 'given'"),
        ("class Kept:\n    pass\n", "name 'Kept'"),
        ("self.whole = 2\n", "name 'whole'"),
        ("def f():\n    '''Hear what pixels say.\n\n    The file tells it.\n    '''\n", "'tells'"),
        ("known_pixels = 1  # nobody knows\n", "'nobody'"),
    ],
)
def test_a_violation_is_reported_with_its_line(tmp_path, code, violation):
    path = tmp_path / "module.py"
    path.write_text(code, encoding="utf-8")
    (line,) = [line for line in violations(path) if violation in line]
    assert line.startswith("module.py:")


def test_terms_of_the_field_are_allowed(tmp_path):
    path = tmp_path / "module.py"
    path.write_text("known_pixels = left = 1  # one value for each pixel\n", encoding="utf-8")
    assert violations(path) == []
