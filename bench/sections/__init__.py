"""What is measured, one file a section: each fills tables and charts, and yields them as they become known."""
