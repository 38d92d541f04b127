"""A message's content beside its text, as JSON: a structured message's object, and images."""

import base64
import io
from collections.abc import Sequence
from typing import Any, cast

from autogen_agentchat.messages import BaseChatMessage, BaseTextChatMessage, MultiModalMessage, StructuredMessage
from autogen_core import Image
from PIL import Image as Pictures
from PIL.Image import Image as Picture

from askstream.server.events import Json
from askstream.server.events.errors import RunFailed

OBJECT, PARTS = "application/json", "multipart/mixed"

# Characters of all images of a message, in base64: an event has 256 KiB, its text included.
IMAGE_CHARACTERS = 160_000
# Pixels of one image of a question: a small file may hold a picture of gigabytes, and a model gets it as PNG.
MOST_PIXELS = 4_000_000
# Pixels of the longer side, each tried in turn until the image fits.
_SIDES = (1536, 1024, 512, 256, 128, 64)
_JPEG_QUALITY = 80


def content(message: BaseChatMessage) -> tuple[str | None, Json]:
    """The content's type and the content, None for plain text. May take a tenth of a second if there are images."""
    match message:
        case BaseTextChatMessage():
            return None, None
        case MultiModalMessage():
            return PARTS, _parts(message.content)
        case StructuredMessage():
            return OBJECT, cast(Any, message).content.model_dump(mode="json")
        case _:
            return OBJECT, message.model_dump(mode="json", exclude=set(BaseChatMessage.model_fields))


def read(urls: Sequence[str]) -> list[Image]:
    """The images of `data:` addresses. Raises RunFailed `image_unreadable`. May take tenths of a second."""
    return [_read(url) for url in urls]


def _read(url: str) -> Image:
    try:
        picture = Pictures.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
        if picture.width * picture.height > MOST_PIXELS:
            raise ValueError("too many pixels")
        picture.load()
        return Image(picture)
    except Exception as problem:  # decoders raise errors of many kinds
        raise RunFailed("image_unreadable", "An image of the question can't be read. Send another file.") from problem


def has_images(message: object) -> bool:
    return isinstance(message, MultiModalMessage) and any(isinstance(part, Image) for part in message.content)


def _parts(parts: Sequence[str | Image]) -> Json:
    """Each text as it is, each image as an object with its size in pixels and its data."""
    count = sum(isinstance(part, Image) for part in parts)
    return [_image(part.image, IMAGE_CHARACTERS // count) if isinstance(part, Image) else part for part in parts]


def _image(picture: Picture, most: int) -> dict[str, Json]:
    """An image as a `data:` address of at most so many characters: scaled down if it is larger, without an address if
    even a thumbnail doesn't fit."""
    whole: dict[str, Json] = {"type": "image", "width": picture.width, "height": picture.height}
    for side in _SIDES:
        smaller = _scaled(picture, side)
        for kind in ("PNG", "JPEG"):
            encoded = _encoded(smaller, kind)
            if len(encoded) <= most:
                scaled: dict[str, Json] = {"scaled": True} if smaller.size != picture.size else {}
                media_type = f"image/{kind.lower()}"
                return {**whole, "media_type": media_type, "url": f"data:{media_type};base64,{encoded}", **scaled}
    return {**whole, "truncated": True}


def _scaled(picture: Picture, side: int) -> Picture:
    if max(picture.size) <= side:
        return picture
    smaller = picture.copy()
    smaller.thumbnail((side, side))
    return smaller


def _encoded(picture: Picture, kind: str) -> str:
    buffer = io.BytesIO()
    if kind == "JPEG":
        picture.convert("RGB").save(buffer, kind, quality=_JPEG_QUALITY)
    else:
        picture.save(buffer, kind)
    return base64.b64encode(buffer.getvalue()).decode()
