"""The team that answers: the orchestrator, the bundled Business Insights team, its tools and data."""
