"""`Skeleton` and `UpAxis`: properties of a file that are not visible in the frames of a clip."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, Literal, TypeAlias, get_args

UpAxis: TypeAlias = Literal["X", "Y", "Z", "-X", "-Y", "-Z"]
"""Up axis of a file, as the file states it or its format defines it."""
UP_AXES: tuple[UpAxis, ...] = get_args(UpAxis)

MOST_NAMES = 256
"""Maximum number of joint names that are kept; the number in a file is unlimited."""
LONGEST_NAME = 64
"""Maximum number of characters of a joint name."""


@dataclass(frozen=True)
class Skeleton:
    """The joints (bones) of a file. A file may have joints that deform no mesh.

    Attributes:
        joints: number of joints in the file; 0 if it has none.
        names: names of the first `MOST_NAMES` joints, in the order of the file, "" for a joint without a name. They are
            untrusted text from the file, truncated to `LONGEST_NAME` characters: pass them to `printable_line` before
            printing.
        skinned: whether a visible mesh is deformed by joints.
    """

    joints: int
    names: tuple[str, ...]
    skinned: bool

    @classmethod
    def of(cls, names: Iterable[str], joints: int, skinned: bool) -> Skeleton:
        """Return the skeleton of a file, given names of any number and length, of which only the first are read."""
        return cls(joints, tuple(map(_shortened, islice(names, MOST_NAMES))), skinned)

    def to_json(self) -> dict[str, Any]:
        """Return the values as JSON."""
        return {**asdict(self), "names": list(self.names)}

    @classmethod
    def from_json(cls, values: object) -> Skeleton | None:
        """Invert `to_json`; None for None.

        Raises:
            ValueError: if the values are not those of a skeleton.
        """
        if values is None:
            return None
        if not isinstance(values, Mapping):
            raise ValueError("the skeleton is not a JSON object")
        joints, names, skinned = (values.get(name) for name in ("joints", "names", "skinned"))
        if type(joints) is not int or joints < 0 or not isinstance(skinned, bool):
            raise ValueError("the skeleton lacks the number of joints, or whether a mesh is skinned")
        if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
            raise ValueError("the joint names are not a list of strings")
        if len(names) > MOST_NAMES or any(len(name) > LONGEST_NAME for name in names):
            raise ValueError(f"more than {MOST_NAMES} joint names, or a name of more than {LONGEST_NAME} characters")
        return cls(joints, tuple(names), skinned)


def up_axis_from_json(value: object) -> UpAxis | None:
    """Return an axis from a file that this project wrote; None for None.

    Raises:
        ValueError: if it is not an axis.
    """
    if value is not None and value not in UP_AXES:
        raise ValueError(f"the up axis is not one of {', '.join(UP_AXES)}")
    return value


def _shortened(name: str) -> str:
    """Return a name of at most `LONGEST_NAME` characters that can be written as UTF-8."""
    text = name[: LONGEST_NAME + 1].encode("utf-8", "replace").decode()
    return text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME - 1]}…"
