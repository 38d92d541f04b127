"""The offline analyst: rules that answer business questions over the bundled warehouse, behind a model endpoint."""

from askstream.agents.insights.offline.endpoint import MODEL, Endpoint, load, serve

__all__ = ["MODEL", "Endpoint", "load", "serve"]
