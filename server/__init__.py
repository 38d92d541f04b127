"""The server: events, journal, bus, runs, and the roof that joins them."""
