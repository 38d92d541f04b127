"""Checks the images of a question: `data:` addresses, few and small. Pure.

Only their form is checked, which is quick. Pictures are decoded in a thread, when the team gets them.
"""

import binascii
from base64 import b64decode
from collections.abc import Mapping, Sequence

from askstream.server.events.errors import ImageTooLarge, InvalidImage

# The first bytes of each media type.
SIGNATURES: Mapping[str, bytes] = {
    "image/png": b"\x89PNG\r\n\x1a\n",
    "image/jpeg": b"\xff\xd8\xff",
    "image/gif": b"GIF8",
    "image/webp": b"RIFF",
}
MOST_IMAGES = 4
# Of all of them, in base64: they are a part of `started`, and an event has 256 KiB.
IMAGE_CHARACTERS = 160_000


def check(images: Sequence[str]) -> None:
    """Raises ImageTooLarge and InvalidImage, which don't repeat an image."""
    size = sum(map(len, images))
    if len(images) > MOST_IMAGES:
        raise ImageTooLarge(f"images: {len(images)} images; at most {MOST_IMAGES} are allowed.")
    if size > IMAGE_CHARACTERS:
        raise ImageTooLarge(f"images: {size:,} characters; at most {IMAGE_CHARACTERS:,} are allowed.")
    for number, url in enumerate(images):
        if not _is_image(url):
            kinds = ", ".join(SIGNATURES)
            raise InvalidImage(f"images.{number}: expected data:TYPE;base64,DATA, with an image of one of {kinds}.")


def _is_image(url: str) -> bool:
    head, _, data = url.partition(",")
    signature = SIGNATURES.get(head.removeprefix("data:").removesuffix(";base64"))
    if signature is None or head != f"data:{head[5:-7]};base64":
        return False
    try:
        return b64decode(data, validate=True).startswith(signature)
    except (binascii.Error, ValueError):
        return False
