"""Starting a network from another one's weights."""

from dataclasses import dataclass

from torch import Tensor, nn

from utils.log import LOGGER


@dataclass(frozen=True)
class Transfer:
    """What was taken over.

    Attributes:
        taken: keys copied.
        missing: keys of the new network that the weights do not have.
        unfit: keys they have in another shape, with both shapes.
    """

    taken: list[str]
    missing: list[str]
    unfit: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]

    @property
    def total(self) -> int:
        """Number of tensors of the new network."""
        return len(self.taken) + len(self.missing) + len(self.unfit)


def transfer_weights(model: nn.Module, state: dict[str, Tensor], with_anchors: bool = False) -> Transfer:
    """Copy every tensor that has the same name and shape into ``model``.

    Args:
        model: takes the tensors.
        state: offers them.
        with_anchors: take the anchors too; otherwise they stay the new network's own and are not counted.
    """
    taken, missing, unfit = [], [], {}
    for key, tensor in model.state_dict().items():
        if key.endswith(".anchors") and not with_anchors:
            continue
        if key not in state:
            missing.append(key)
        elif state[key].shape != tensor.shape:
            unfit[key] = tuple(state[key].shape), tuple(tensor.shape)
        else:
            taken.append(key)
    model.load_state_dict({key: state[key] for key in taken}, strict=False)
    return Transfer(taken, missing, unfit)


def log_transfer(transfer: Transfer, source: str, layer_types: list[str]) -> None:
    """Say how many tensors were taken, and for each layer that was not taken whole, why.

    Args:
        transfer: the result.
        source: the weights file, as the user knows it.
        layer_types: type of each layer by index, for keys ``model.<index>.<rest>``.
    """
    LOGGER.info(f"Transferred {len(transfer.taken)} of {transfer.total} tensors from {source}")
    reasons: dict[str, list[str]] = {}
    for key in transfer.missing:
        reasons.setdefault(_layer_of(key, layer_types), []).append("not in the file")
    for key, (theirs, ours) in transfer.unfit.items():
        shapes = f"shape {'x'.join(map(str, theirs))} there, {'x'.join(map(str, ours))} here"
        reasons.setdefault(_layer_of(key, layer_types), []).append(shapes)
    for name, causes in reasons.items():
        more = f" (and {len(causes) - 1} more)" if len(causes) > 1 else ""
        LOGGER.info(f"  {name}: {len(causes)} tensors left at their start values: {causes[0]}{more}")


def _layer_of(key: str, layer_types: list[str]) -> str:
    index = int(key.split(".")[1])
    return f"{index} {layer_types[index]}"
