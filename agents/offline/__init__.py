"""The offline analyst: rules that answer business questions over the bundled warehouse, behind a model endpoint."""

from agents.offline.analyst import MODEL, reply
from agents.offline.endpoint import Endpoint, serve

__all__ = ["MODEL", "Endpoint", "reply", "serve"]
