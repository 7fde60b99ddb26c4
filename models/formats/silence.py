"""Converters and runtimes print a lot; users asked for a file."""

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from utils.once import OnceForAll


@contextmanager
def _nothing_printed() -> Iterator[None]:
    _flush()
    kept = {number: os.dup(number) for number in (1, 2)}
    nowhere = os.open(os.devnull, os.O_WRONLY)
    before = logging.root.manager.disable
    try:
        for number in kept:
            os.dup2(nowhere, number)
        logging.disable(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
        _flush()
        for number, copy in kept.items():
            os.dup2(copy, number)
            os.close(copy)
        os.close(nowhere)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()


SILENCE = OnceForAll(_nothing_printed)


@contextmanager
def silence(verbose: bool = False) -> Iterator[None]:
    """Keep what converters print, from Python and from C++, unless it is asked for."""
    if verbose:
        yield
        return
    with SILENCE:
        yield
