"""Sections of the benchmark: each is a function that yields its tables as they become known."""
