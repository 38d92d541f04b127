"""Text that isn't valid Unicode is mended."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from askstream.server.events.unicode import PieceMender, mended, mended_json

HIGH, LOW, FACE = "\ud83d", "\ude00", "\U0001f600"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("é", "é"),
        (f"a{HIGH}", "a\ufffd"),
        (f"{LOW}b", "\ufffdb"),
        (HIGH + LOW, FACE),
        (HIGH * 2, "\ufffd" * 2),
    ],
)
def test_halves_are_joined_and_lone_ones_replaced(text: str, expected: str) -> None:
    assert mended(text) == expected
    assert mended_json({text: [text, 1, None]}) == {expected: [expected, 1, None]}


@given(st.lists(st.text(alphabet=st.sampled_from(["a", "é", HIGH, LOW, FACE]))))
def test_pieces_make_up_the_mended_whole(pieces: list[str]) -> None:
    """Wherever the text was split, and each piece is valid by itself."""
    mender = PieceMender()
    found = [*(mender.add(piece) for piece in pieces), mender.end()]
    assert "".join(found) == mended("".join(pieces))
    assert all(piece == mended(piece) for piece in found)


def test_only_half_a_character_waits() -> None:
    """The rest of a piece is passed on at once."""
    mender = PieceMender()
    assert [mender.add(f"ab{HIGH}"), mender.add(LOW), mender.add("c")] == ["ab", FACE, "c"]
