"""Measurements, fits and scores."""
