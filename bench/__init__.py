"""Measures the cost of the server on this machine beside that of others: `python3 dev.py bench`."""
