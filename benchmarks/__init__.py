"""Timings, and the programs they are compared with."""
