"""What the server costs, measured on this machine beside what others cost: `python3 dev.py bench`."""
