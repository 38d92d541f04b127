"""Filters."""

from askstream.server.events import EVERYTHING, Filter


def test_chunks_need_tokens() -> None:
    """`tokens` is off by default, and `include` alone doesn't turn it on."""
    assert not Filter().wants("agent_chunk", "A")
    assert not Filter(include=frozenset({"agent_chunk"})).wants("agent_chunk", "A")
    assert Filter(tokens=True).wants("agent_chunk", "A")


def test_include_exclude_and_agents_all_have_to_let_an_event_through() -> None:
    """Each of the three can hide an event."""
    wanted = Filter(frozenset({"error", "started"}), frozenset({"started"}), frozenset({"A"}))
    assert wanted.wants("error", "A")
    assert not wanted.wants("error", "B")
    assert not wanted.wants("started", "A")
    assert not wanted.wants("completed", "A")


def test_everything_is_everything() -> None:
    """The filter of a viewer that wants the whole log."""
    assert EVERYTHING.wants("agent_chunk", "anybody")


def test_a_filter_that_wants_all_of_some_types_hides_none_of_them() -> None:
    """This holds for every agent, so a filter of certain agents never wants all."""
    types = {"started", "agent_response"}
    assert EVERYTHING.wants_all(types | {"agent_chunk"})
    assert Filter().wants_all(types)
    assert not Filter().wants_all(types | {"agent_chunk"})
    assert not Filter(exclude=frozenset({"started"})).wants_all(types)
    assert not Filter(agents=frozenset({"A"})).wants_all(types)
