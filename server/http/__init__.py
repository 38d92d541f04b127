"""The plain HTTP side: runs as resources, the page, health, and the description of the API."""
