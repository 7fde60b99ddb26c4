"""``--compile``: the network through torch.compile, and an honest word on what that costs."""

from collections.abc import Callable
from typing import cast

import torch
from torch import nn

from utils.device import Stopwatch
from utils.log import LOGGER


def compile_network(network: nn.Module, step: Callable[[nn.Module], None], device: torch.device) -> nn.Module:
    """Return ``network`` compiled, or itself with a warning if that fails.

    Args:
        network: what training calls.
        step: runs forward, loss and backward of one batch through what it is given; this is when compiling happens.
        device: where it runs.
    """
    LOGGER.info("compiling the network, which takes minutes ...")
    compiled = cast(nn.Module, torch.compile(network))
    compilation, batches, plain_batches = (Stopwatch(device) for _ in range(3))
    try:
        with compilation:
            step(compiled)
    except Exception as error:  # the kinds of a compiler that fails are many, and none is a reason to stop
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        LOGGER.warning(f"WARNING: --compile: torch.compile failed: {reason}; going on without")
        return network
    with batches:
        step(compiled)
    with plain_batches:
        step(network)
    compiling, batch, plain = compilation.seconds, batches.seconds, plain_batches.seconds
    gain = f"pays off after {compiling / (plain - batch):.0f} batches" if plain > batch else "is not worth it here"
    LOGGER.info(
        f"compiled in {compiling:.0f} s; a batch takes {batch:.2f} s in place of {plain:.2f} s, so this {gain} "
        "(another size of images or batches compiles anew)"
    )
    return compiled
