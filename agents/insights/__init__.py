"""The bundled Business Insights team, its tools and its data."""
