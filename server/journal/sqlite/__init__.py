"""The default journal: a SQLite file in WAL mode."""
