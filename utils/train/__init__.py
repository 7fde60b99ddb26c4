"""Batches to a checkpoint."""
