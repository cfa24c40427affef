"""Repeats the figures of the README."""
