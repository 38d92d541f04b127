"""The page at /client: static ES modules that the server hands out as they are, without a build step."""
