"""What is measured: each section is a function that yields its tables as they become known."""
