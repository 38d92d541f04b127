"""The tokens file, the server's own token, and what is signed with them."""

import os
import stat
from pathlib import Path

import pytest

from askstream.server.auth import Access, LiveStreams
from askstream.server.auth.access import ANONYMOUS
from askstream.server.auth.signing import Signer
from askstream.server.auth.tokens import Tokens

# SHA-256 of `secret`.
HASHED = "sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    return Tokens(tmp_path / "tokens", tmp_path / "data" / "token")


def test_a_line_is_a_name_and_a_token_or_its_hash(tokens: Tokens, caplog: pytest.LogCaptureFixture) -> None:
    """A wrong line is logged by its number, never by its content, and hides no other."""
    lines = ["# people", "", "alice plain", f"ops {HASHED} admin", "bob", "eve x root", "a/b hidden", "carol last"]
    tokens.file.write_text("\n".join(lines))
    found = {token: tokens.find(token) for token in ("plain", "secret", "last", "hidden", "x", HASHED, "", "#")}
    assert {token: (key.name, key.admin) for token, key in found.items() if key} == {
        "plain": ("alice", False),
        "secret": ("ops", True),
        "last": ("carol", False),
    }
    assert [record.args[1] for record in caplog.records if isinstance(record.args, tuple)] == [5, 6, 7]
    assert "hidden" not in caplog.text


def test_a_change_of_the_file_counts_at_once(tokens: Tokens) -> None:
    """Also its end, and one that keeps size and time."""
    tokens.file.write_text("alice one\n")
    assert tokens.find("one")
    tokens.file.write_text("alice two\n")
    os.utime(tokens.file, ns=(1, 1))
    assert tokens.find("two")
    assert tokens.find("one") is None
    other = tokens.file.with_name("other")
    other.write_text("alice six\n")
    os.utime(other, ns=(1, 1))
    other.replace(tokens.file)
    assert tokens.find("six")
    tokens.file.unlink()
    assert tokens.find("six") is None


def test_the_servers_own_token_is_made_once_and_private(tokens: Tokens) -> None:
    """An empty file, as a full disk leaves, is no token."""
    tokens.made.parent.mkdir()
    tokens.made.touch()
    assert tokens.find("") is None
    token = tokens.make()
    assert len(token) == 43
    assert Tokens(tokens.file, tokens.made).make() == token
    assert stat.S_IMODE(tokens.made.stat().st_mode) == 0o600
    key = tokens.find(token)
    assert key is not None
    assert key.name == "anonymous"
    assert [path.name for path in tokens.made.parent.iterdir()] == ["token"]


def test_a_name_may_have_several_tokens(tokens: Tokens) -> None:
    """To change one without a pause. All of them are revoked together."""
    first, second = tokens.add("alice"), tokens.add("alice")
    other = tokens.add("bob")
    assert tokens.find(first) != tokens.find(second)
    assert tokens.revoke("alice") == 2
    assert [bool(tokens.find(token)) for token in (first, second, other)] == [False, False, True]
    assert tokens.revoke("alice") == 0


def test_a_signed_text_is_whole_and_of_its_time_and_purpose(tokens: Tokens, tmp_path: Path) -> None:
    signer = Signer(tmp_path / "secret", tokens.by_id)
    assert signer.verified("cookie", "a.b", 0) is None
    assert not (tmp_path / "secret").exists(), "nobody has signed anything"
    ticket = signer.sign("ticket", Access(principal="alice", run_id="r"), 100)
    assert signer.verified("ticket", ticket, 99.9) == Access(principal="alice", run_id="r", expires_at=100)
    assert signer.verified("ticket", ticket, 100) is None
    assert signer.verified("cookie", ticket, 0) is None
    for number in range(len(ticket)):
        changed = ticket[:number] + ("A" if ticket[number] != "A" else "B") + ticket[number + 1 :]
        assert signer.verified("ticket", changed, 0) is None
    for other in ("", ".", ticket.partition(".")[0], ticket + ".", "é.é", "W10.x", "WzEsMiwzLDQsW10sNl0.x", "x" * 5000):
        assert signer.verified("ticket", other, 0) is None
    assert Signer(tmp_path / "secret", tokens.by_id).verified("ticket", ticket, 0), "it outlives a restart"
    assert Signer(tmp_path / "another", tokens.by_id).verified("ticket", ticket, 0) is None
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600


def test_a_signed_text_ends_with_its_token(tokens: Tokens, tmp_path: Path) -> None:
    """A token with the same name is another one; a file of hashes is not enough to sign."""
    key = tokens.find(tokens.add("alice"))
    assert key is not None
    signer = Signer(tmp_path / "secret", tokens.by_id)
    cookie = signer.sign("cookie", Access(principal="alice", key=key.id), 100)
    assert signer.verified("cookie", cookie, 0)
    tokens.revoke("alice")
    tokens.add("alice")
    assert signer.verified("cookie", cookie, 0) is None
    assert key.digest.hex() not in (tmp_path / "secret").read_text()


class Stream:
    def __init__(self) -> None:
        self.ended = 0

    def revoked(self) -> None:
        self.ended += 1


def test_streams_end_with_their_access() -> None:
    """Once. One that has ended by itself is forgotten, and one without a token never ends."""
    valid = {"a", "b"}
    live = LiveStreams(lambda access: access.key in valid)
    streams = {name: Stream() for name in ("a", "b", "gone", "free", "timed")}
    for name in ("a", "b", "gone"):
        live.add(streams[name], Access(principal="p", key=name if name != "gone" else "a"))
    live.add(streams["free"], ANONYMOUS)
    live.add(streams["timed"], Access(principal="p", expires_at=5))
    live.discard(streams["gone"])
    for _ in range(2):
        valid.discard("a")
        live.check()
    assert {name: stream.ended for name, stream in streams.items()} == {
        "a": 1,
        "b": 0,
        "gone": 0,
        "free": 0,
        "timed": 1,
    }
