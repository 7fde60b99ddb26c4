"""What all tests of formats need before they start."""

import importlib

import pytest

from utils.export.checks import is_installed


@pytest.fixture(scope="session", autouse=True)
def paddle_before_tensorflow() -> None:
    """Load Paddle where both are installed: after TensorFlow, it would be refused."""
    if is_installed("paddlepaddle") and is_installed("tensorflow"):
        importlib.import_module("paddle").disable_signal_handler()
