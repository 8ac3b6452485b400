"""What a text given by the user names: a URL, a collection, or a path."""

from __future__ import annotations

COLLECTIONS = ("texverse", "objaverse")


def is_url(text: str) -> bool:
    """Whether it is a URL, `objaverse:https://...` and the like not included."""
    return "://" in text and text.partition(":")[0] not in COLLECTIONS
