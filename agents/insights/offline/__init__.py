"""The offline analyst: rules that answer business questions over the bundled warehouse, behind a model endpoint."""

from askstream.agents.insights.offline.analyst import MODEL, reply
from askstream.agents.insights.offline.endpoint import Endpoint, serve

__all__ = ["MODEL", "Endpoint", "reply", "serve"]
