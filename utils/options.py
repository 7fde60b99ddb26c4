"""Command-line options as dataclasses: argparse, --help, opt.yaml and ``run(**options)`` from one definition."""

import argparse
import dataclasses
import errno
import sys
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from utils.errors import UserError, near_matches

Options = TypeVar("Options")


def option(default: Any, help: str, *aliases: str, **argparse_settings: Any) -> Any:
    """Declare one option of an options dataclass.

    Args:
        default: value when the flag is not given. A ``list`` is copied for each instance.
        help: one line for ``--help``; the default is appended.
        aliases: further spellings, e.g. ``"--img"``.
        argparse_settings: passed on to ``add_argument`` (``choices``, ``nargs``, ``const``, ``metavar``).
    """
    metadata = {"help": help, "aliases": aliases, "argparse": argparse_settings}
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


def build_parser(program: str, options_class: type, description: str) -> argparse.ArgumentParser:
    """Return the parser for an options dataclass. Unambiguous prefixes such as ``--batch`` work, as in v6.1."""
    parser = argparse.ArgumentParser(prog=program, description=description)
    for field in dataclasses.fields(options_class):
        flags = [f"--{field.name.replace('_', '-')}", *field.metadata["aliases"]]
        default = field.default_factory() if field.default is dataclasses.MISSING else field.default
        help_text = field.metadata["help"] if default in (None, False, "") else f"{field.metadata['help']} [{default}]"
        settings: dict[str, Any] = {"dest": field.name, "default": default, "help": help_text.replace("%", "%%")}
        element, several = _argument_type(field.type)
        if element is bool:
            settings["action"] = "store_true"
        else:
            settings |= {"type": element, "metavar": element.__name__.upper()}
            settings |= {"nargs": "+"} if several else {}
        parser.add_argument(*flags, **(settings | field.metadata["argparse"]))
    return parser


def make_options(options_class: type[Options], overrides: dict[str, Any]) -> Options:
    """Return the default options with ``overrides`` applied, for Python callers of ``run(**options)``.

    Raises:
        UserError: an override is not an option.
    """
    known = {field.name for field in dataclasses.fields(options_class)}  # type: ignore[arg-type]
    for name in overrides:
        if name not in known:
            raise UserError(f"unknown option '{name}'{near_matches(name, known)}")
    return options_class(**overrides)


def describe_options(program: str, options: Any) -> str:
    """Return v6.1's echo line, ``train: weights=..., cfg=..., ...``."""
    pairs = ", ".join(f"{field.name}={getattr(options, field.name)}" for field in dataclasses.fields(options))
    return f"{program}: {pairs}"


def run_command(program: str, options_class: type[Options], main: Callable[[Options], Any], description: str) -> None:
    """Parse the command line, call ``main`` and exit.

    Exit codes: 0 done, 1 a mistake of the user's or the machine's (one line on standard error), 2 wrong options,
    130 interrupted. Faults of the program itself keep their traceback.
    """
    options = options_class(**vars(build_parser(program, options_class, description).parse_args()))
    try:
        main(options)
    except UserError as error:
        _fail(program, str(error), 1)
    except KeyboardInterrupt:
        _fail(program, "interrupted", 130)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT, errno.ENOENT, errno.EPIPE):
            raise
        where = f" '{error.filename}'" if error.filename else ""
        _fail(program, f"{error.strerror or error}{where}; free space or choose another folder with --project", 1)


def _fail(program: str, message: str, code: int) -> None:
    print(f"{Path(program).name}: error: {message}", file=sys.stderr)
    sys.exit(code)
