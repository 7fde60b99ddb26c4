"""What the network is: layers, the YAML parser, formats. ``models.load("best.pt")`` gives one that takes pictures."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from models.loading import load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    """Import ``load`` on first use: it puts all parts together, and most who import from here want one of them."""
    if name == "load":
        from models.loading import load

        return load
    raise AttributeError(f"module 'models' has no attribute '{name}'")
