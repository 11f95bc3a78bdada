"""Sweeps and searches over scenarios."""
