"""The page at /client: static ES modules, served without a build step."""
