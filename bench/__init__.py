"""What the server costs, measured on the machine at hand beside what others cost: `python3 dev.py bench`."""
