"""Repeats the figures of docs/results.md."""
