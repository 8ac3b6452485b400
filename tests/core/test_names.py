"""Names from files and listings cannot lead out of a folder."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helix4d.core import FormatError
from helix4d.core.names import check_key, check_relative, check_suffix

PARTS = st.sampled_from(["..", ".", "", "a", "train", "/", "\\", "\x00", "\n", "\u202e", "C:", "~"])


@pytest.mark.parametrize("key", ["0123456789abcdef_0", "ffffffffffffffff_12"])
def test_keys_are_accepted(key: str) -> None:
    assert check_key(key, "x.json") == key


@pytest.mark.parametrize(
    "key",
    ["../../../config", "0123456789abcdef", "0123456789ABCDEF_0", "0123456789abcdef_0\n", "0123456789abcdef_-1",
     "0123456789abcdef_0/x", "", None, 5, ["0123456789abcdef_0"], "0123456789abcdef_" + "9" * 300],
)  # fmt: skip
def test_other_keys_are_refused(key: object) -> None:
    with pytest.raises(FormatError, match=r"^x\.json: key .*: expected 16 lowercase hexadecimal digits") as caught:
        check_key(key, "x.json")
    assert len(str(caught.value)) < 250
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["clip.json", "view_00_frame_00.depth.png16", "shape.safetensors", "frame_00.vxz"])
def test_suffixes_are_accepted(suffix: str) -> None:
    assert check_suffix(suffix, "x.json") == suffix


@pytest.mark.parametrize("suffix", ["../x", "a/b", ".json", "a..b", "a.", "x\n", "x\\y", "", "é.png", "a" * 101, 7])
def test_other_suffixes_are_refused(suffix: object) -> None:
    with pytest.raises(FormatError, match="member name"):
        check_suffix(suffix, "x.json")


@given(st.lists(PARTS, max_size=5).map("/".join))
def test_a_relative_name_stays_in_its_folder(name: str) -> None:
    try:
        accepted = check_relative(name, "listing")
    except FormatError:
        return
    path = PurePosixPath("/folder") / accepted
    assert path.parts[:2] == ("/", "folder")
    assert len(path.parts) > 2
    assert not {"..", ".", ""} & set(accepted.split("/"))
    assert not any(ord(letter) < 32 for letter in accepted)


def test_a_name_inside_the_folder_is_accepted() -> None:
    assert check_relative("train/helix4d-000000.tar", "listing") == "train/helix4d-000000.tar"
    assert check_relative("Fox (1)/scène.glb", "listing") == "Fox (1)/scène.glb"
