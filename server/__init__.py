"""The server: events, journal, bus, runs, connections, and the application that joins them."""
