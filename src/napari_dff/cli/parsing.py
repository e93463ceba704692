"""Parse the command line, and turn errors of the parser into one sentence."""

import contextlib
import difflib
import functools
import io
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tyro

from napari_dff.runtime.words import join_words

PROGRAM = "napari-dff"
DESCRIPTION = """Depth from focus: a focal stack becomes a depth map and an all-in-focus image.

napari-dff --version prints the version; napari-dff --completion bash (or zsh, tcsh) prints a \
script that completes commands and options in the shell."""
COMPLETION, TYRO_COMPLETION = "--completion", "--tyro-print-completion"
TYPES = {"INT": "an integer", "FLOAT": "a number", "PATH": "a path"}
MIN_SIMILARITY = 0.5
BOX = re.compile(r"^[│|+╭╰]|[│|+╮╯]\s*$|[─-]{3,}")  # around messages, of lines or in ASCII
UNKNOWN_OPTIONS = re.compile(
    r"Unrecognized (?:or misplaced )?options: (.*?)(?= Perhaps| Available| Arguments are applied|$)"
)
Command = functools.partial[int | None]


class UsageError(ValueError):
    """An invalid command line."""


def parse_command(
    commands: Mapping[str, Callable[..., int | None]],
    arguments: Sequence[str],
    **defaults: Any,  # of parameters that a command has
) -> Command:
    """Return the command with its arguments, not run yet; UsageError for invalid arguments.

    SystemExit if help or a completion script was requested and printed.
    """
    if not arguments:
        raise UsageError(
            f"a command is missing: {join_words(commands, 'or')}; see {PROGRAM} --help"
        )
    if arguments[0] in (COMPLETION, TYRO_COMPLETION):
        arguments = [TYRO_COMPLETION, *(arguments[1:] or ["bash"])]
    elif not arguments[0].startswith("-") and arguments[0] not in commands:
        hint = _nearest(arguments[0], list(commands))
        choices = join_words(commands, "or")
        raise UsageError(f"the command must be {choices}, got {arguments[0]!r}{hint}")
    if any(_is_without_value(arguments, i) for i in range(len(arguments))):
        raise UsageError("--spacing needs one or three numbers after it")
    deferred: dict[str, Callable[..., Command]]
    deferred = {name: _deferred(function, defaults) for name, function in commands.items()}
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            command: Command = tyro.extras.subcommand_cli_from_dict(
                deferred, args=arguments, prog=PROGRAM, description=DESCRIPTION
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UsageError(_sentence(errors.getvalue(), arguments)) from None
    sys.stderr.write(errors.getvalue())
    return command


def _is_without_value(arguments: Sequence[str], i: int) -> bool:
    """Return whether an argument is --spacing, of which the parser takes no number for none."""
    following = arguments[i + 1 : i + 2]
    return arguments[i] == "--spacing" and (not following or following[0].startswith("--"))


def _deferred(
    function: Callable[..., int | None], defaults: Mapping[str, Any]
) -> functools.partial[Command]:
    """Return a function with the parameters of `function` that returns the call, not run yet."""

    @functools.wraps(function)
    def prepare(*values: Any, **named: Any) -> Any:
        return functools.partial(function, *values, **named)

    names = function.__annotations__
    return functools.partial(prepare, **{k: v for k, v in defaults.items() if k in names})


def _sentence(text: str, arguments: Sequence[str]) -> str:
    """Return the message of the parser, in a box of lines, as one sentence."""
    lines = [BOX.sub("", line).rstrip() for line in text.splitlines()]
    content = " ".join(" ".join(lines).split()).partition(" For full helptext")[0]
    see = f"see {PROGRAM} {arguments[0]} --help"
    if match := re.search(r"invalid choice '(.*?)' for argument '(.*?)'.*\((.*)\)", content):
        value, option, quoted = match.groups()
        choices = re.findall(r"'([^']*)'", quoted)
        name = option.lstrip("-")
        return (
            f"{name} must be {join_words(choices, 'or')}, got {value!r}{_nearest(value, choices)}"
        )
    if match := UNKNOWN_OPTIONS.search(content):
        words = re.sub(r"\(applied to .*?\)", "", match[1]).replace(",", "").split()
        similar = re.search(r"Perhaps you meant: (--[\w-]+)", content)
        hint = f"; did you mean {similar[1]}?" if similar and similar[1] not in words else ""
        return f"{arguments[0]} has no option {' '.join(words)}{hint}; {see}"
    if match := re.search(r"Error parsing (\S+): (.*?)(?= Argument helptext|$)", content):
        return _value_error(match[1], match[2], content, arguments, see)
    if match := re.search(r"Missing value for argument '(\S+)'", content):
        return f"{match[1]} needs a value after it; {see}"
    if "Missing from" in content:
        required = "\n".join(lines).partition("For full helptext")[0]
        names = [name.strip() for name in re.findall(r"^ {5,6}(\S.*)$", required, re.MULTILINE)]
        if names:
            return f"{arguments[0]} needs {' and '.join(names)}; {see}"
    return f"{content.replace('__tyro-dummy-inner__', 'the arguments')}; {see}"


def _value_error(option: str, reason: str, content: str, arguments: Sequence[str], see: str) -> str:
    """Return the message for a value that is not of the type of its option."""
    if option not in arguments:
        reason = re.sub(r"\s*Got errors:.*", "", reason).replace("__tyro-dummy-inner__", "")
        if " must " in reason:  # of a check of napari-dff
            return reason.strip(" :")
        return f"the arguments of {arguments[0]} are not valid: {reason.strip(' :')}; {see}"
    words = list(arguments[arguments.index(option) + 1 :])
    value = words[0] if words and not words[0].startswith("--") else ""
    kind = re.search(rf"{re.escape(option)} (\w+)", content.partition("Argument helptext")[2])
    expected = TYPES.get(kind[1] if kind else "", "another value")
    if not value:
        return f"{option} needs {expected} after it; {see}"
    return f"{option.lstrip('-')} must be {expected}, got {value!r}; {see}"


def _nearest(word: str, choices: Sequence[str]) -> str:
    """Return a hint at the most similar choice, or ""."""
    similar = difflib.get_close_matches(word, choices, n=1, cutoff=MIN_SIMILARITY)
    return f"; did you mean {similar[0]}?" if similar else ""
