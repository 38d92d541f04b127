"""Authentication: guards requests against foreign pages, and finds out who asks. Knows no framework."""

from askstream.server.auth.access import ACCESS, ANONYMOUS, Access, access_of
from askstream.server.auth.facts import RequestFacts, facts_of
from askstream.server.auth.gate import Gate, Policy
from askstream.server.auth.streams import LiveStreams

__all__ = ["ACCESS", "ANONYMOUS", "Access", "Gate", "LiveStreams", "Policy", "RequestFacts", "access_of", "facts_of"]
