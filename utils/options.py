"""Command-line options as dataclasses: argparse, --help, opt.yaml and ``run(**options)`` from one definition."""

import argparse
import dataclasses
import errno
import io
import os
import re
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from utils.errors import UserError, near_matches
from utils.interrupts import interrupts_repeated
from utils.memory import is_out_of_memory, keep_freed_memory

Options = TypeVar("Options")

PASSWORD = re.compile(r"(?<=://)[^\s/@]*:[^\s@]*(?=@)")  # with the user name before it, in a URL
FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def option(
    default: Any,
    help: str,
    *aliases: str,
    least: float | None = None,
    most: float | None = None,
    words: Sequence[str] = (),
    positional: bool = False,
    **argparse_settings: Any,
) -> Any:
    """Declare one option of an options dataclass.

    Args:
        default: value when the flag is not given. A ``list`` is copied for each instance.
        help: one line for ``--help``; the default is appended.
        aliases: further spellings, e.g. ``"--img"``.
        least: smallest number allowed.
        most: largest number allowed.
        words: what may be given instead of a number.
        positional: given without a flag, and required.
        argparse_settings: passed on to ``add_argument`` (``choices``, ``nargs``, ``const``, ``metavar``).
    """
    metadata = {
        "help": help,
        "aliases": aliases,
        "least": least,
        "most": most,
        "words": words,
        "positional": positional,
        "argparse": argparse_settings,
    }
    if isinstance(default, list):
        return dataclasses.field(default_factory=default.copy, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def _argument_type(annotation: Any) -> tuple[type, bool]:
    """Return (element type, takes several values) of ``int``, ``str | None``, ``list[int] | None`` and the like."""
    if isinstance(annotation, types.UnionType):
        annotation = next(part for part in typing.get_args(annotation) if part is not type(None))
    if typing.get_origin(annotation) is list:
        return typing.get_args(annotation)[0], True
    return annotation, False


def _number_or(words: Sequence[str], number: type) -> Callable[[str], Any]:
    """Return what turns text into one of ``words`` or a number of type ``number``."""

    def convert(text: str) -> Any:
        try:
            return text if text in words else number(text)
        except ValueError:
            hint = near_matches(text, words)
            expected = f"expected a number or {' or '.join(words)}"
            raise argparse.ArgumentTypeError(f"invalid value: '{text}', {expected}{hint}") from None

    return convert


class _Parser(argparse.ArgumentParser):
    """Reports a wrong option in one line, without the page of usage before it."""

    unsupported: Mapping[str, str] = {}

    def error(self, message: str) -> NoReturn:
        flags = [flag for action in self._actions for flag in action.option_strings]
        word = message.removeprefix("unrecognized arguments: ").split()[0].split("=")[0]
        instead = self.unsupported.get(word.lstrip("-").replace("-", "_"))
        if instead:
            _fail(self.prog, f"{word} is not supported; {instead}", 2)
        hint = near_matches(word, flags) if word.startswith("--") else ""
        _fail(self.prog, f"{message}{hint}; {self.prog} --help lists the options", 2)


def build_parser(program: str, options_class: type, description: str) -> argparse.ArgumentParser:
    """Return the parser for an options dataclass. Unambiguous prefixes such as ``--batch`` work, as in v6.1.

    What it parses holds the options that were given, no defaults. A mapping ``unsupported`` of the class says for flags
    of v6.1 that are missing here what to use instead.
    """
    parser = _Parser(prog=program, description=description)
    parser.unsupported = getattr(options_class, "unsupported", {})
    defaults = options_class()
    for field in dataclasses.fields(options_class):
        flags = [f"--{field.name.replace('_', '-')}", *field.metadata["aliases"]]
        default = getattr(defaults, field.name)
        help_text = (
            field.metadata["help"] if default in (None, False, "", []) else f"{field.metadata['help']} [{default}]"
        )
        settings: dict[str, Any] = {"default": argparse.SUPPRESS, "help": help_text.replace("%", "%%")}
        element, several = _argument_type(field.type)
        if element is bool:
            settings["action"] = "store_true"
        else:
            words = field.metadata["words"]
            settings |= {"type": _number_or(words, element) if words else element}
            settings |= {"metavar": "|".join([element.__name__.upper(), *words])}
            settings |= {"nargs": "+"} if several else {}
        if field.metadata["positional"]:
            parser.add_argument(field.name, **(settings | {"metavar": field.name.upper()}))
        else:
            parser.add_argument(*flags, dest=field.name, **(settings | field.metadata["argparse"]))
    return parser


def make_options(options_class: type[Options], overrides: dict[str, Any]) -> Options:
    """Return the default options with ``overrides`` applied, for Python callers of ``run(**options)``.

    Raises:
        UserError: an override is not an option, or of the wrong kind or range.
    """
    fields = {field.name: field for field in dataclasses.fields(options_class)}  # type: ignore[arg-type]
    for name in overrides:
        if name not in fields:
            instead = getattr(options_class, "unsupported", {}).get(name)
            raise UserError(f"unknown option '{name}'{f'; {instead}' if instead else near_matches(name, fields)}")
    options = options_class(**{name: _checked(fields[name], value) for name, value in overrides.items()})
    vars(options)["_given"] = frozenset(overrides)  # no field: it is no option
    return options


def given_options(options: Any) -> frozenset[str]:
    """Return the names of the options that were given to ``make_options``, be it with their default value."""
    return vars(options).get("_given", frozenset())


def _checked(field: "dataclasses.Field[Any]", value: Any) -> Any:
    """Return ``value`` as the option's type: paths become text, one value a list where several are taken."""
    element, several = _argument_type(field.type)
    if isinstance(value, bool) and "const" in field.metadata["argparse"]:  # run(resume=True), as in v6.1
        value = field.metadata["argparse"]["const"] if value else None
    if value is None and field.default is None:
        return None
    if several:
        return [_checked_one(field, element, one) for one in (value if isinstance(value, list | tuple) else [value])]
    return _checked_one(field, element, value)


def _checked_one(field: "dataclasses.Field[Any]", element: type, value: Any) -> Any:
    flag = f"--{field.name.replace('_', '-')}"
    if value in field.metadata["words"]:
        return value
    accepted = {str: (str, Path, int), float: (int, float)}.get(element, (element,))
    if not isinstance(value, accepted) or (isinstance(value, bool) and element is not bool):
        expected = " or ".join([element.__name__, *field.metadata["words"]])
        raise UserError(f"{flag} {value!r}: expected {expected}, got {type(value).__name__}")
    value, choices = element(value), field.metadata["argparse"].get("choices")
    least, most = field.metadata["least"], field.metadata["most"]
    if choices and value not in choices:
        raise UserError(f"{flag} {value}: expected one of {', '.join(choices)}")
    # Written so that NaN, which compares false with everything, is out of range.
    if (least is not None and not value >= least) or (most is not None and not value <= most):
        wanted = f"from {least} to {most}" if None not in (least, most) else f"of {least} or more"
        raise UserError(f"{flag} {value}: expected a number {wanted}")
    return value


def describe_options(program: str, options: Any) -> str:
    """Return v6.1's echo line, ``train: weights=..., cfg=..., ...``."""
    pairs = ", ".join(f"{field.name}={getattr(options, field.name)}" for field in dataclasses.fields(options))
    return f"{program}: {re.sub(PASSWORD, '***', pairs)}"


def run_command(program: str, options_class: type[Options], main: Callable[[Options], Any], description: str) -> None:
    """Parse the command line, call ``main`` and exit.

    Exit codes: 0 done, 1 a mistake of the user's or the machine's (one line on standard error), 2 wrong options,
    130 interrupted. Faults of the program itself keep their traceback.
    """
    parsed = vars(build_parser(program, options_class, description).parse_args())
    try:
        options = make_options(options_class, parsed)
    except UserError as error:
        _fail(program, str(error), 2)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file name with characters the console lacks is no reason to stop
        sys.stdout.reconfigure(errors="backslashreplace")
    keep_freed_memory()
    try:
        with interrupts_repeated():
            main(options)
        sys.stdout.flush()  # here a full disk or a closed pipe can still be reported
    except UserError as error:
        _fail(program, str(error), 1)
    except KeyboardInterrupt:
        _fail(program, "interrupted", 130)
    except BrokenPipeError:  # the reader of `detect.py | head` has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes
        _fail(program, "nobody reads the output any more", 1)
    except OSError as error:
        if error.strerror is None:
            raise
        _fail(program, _describe_os_error(error), 1)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        _fail(program, "out of memory; use a smaller --imgsz, --batch-size or model", 1)


def describe_failure(error: UserError | OSError) -> str:
    """Return in one line what went wrong."""
    return _describe_os_error(error) if isinstance(error, OSError) and error.strerror else str(error)


def _describe_os_error(error: OSError) -> str:
    where = f": '{error.filename}'" if error.filename else ""
    mend = "; free space or write to another disk" if error.errno in FULL_DISK else ""
    return f"{error.strerror}{where}{mend}"


def _fail(program: str, message: str, code: int) -> NoReturn:
    print(f"{Path(program).name}: error: {' '.join(message.splitlines())}", file=sys.stderr)
    sys.exit(code)
