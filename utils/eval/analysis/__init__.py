"""Why a detector scores what it scores: its errors by kind, its confidence, object sizes, and its worst images."""

from utils.eval.analysis.analyse import Analysis, analyse
from utils.eval.analysis.save import save_analysis

__all__ = ["Analysis", "analyse", "save_analysis"]
