"""A run: one question being answered, from its first event to its terminal one."""
