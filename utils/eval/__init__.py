"""Predictions to numbers and pictures."""
