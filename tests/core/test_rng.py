from __future__ import annotations

from helix4d.core import generator


def test_equal_names_give_equal_draws_and_different_names_do_not() -> None:
    first = generator(7, "key", "view", 3).random(4).tolist()
    assert first == generator(7, "key", "view", 3).random(4).tolist()
    for other in [(7, "key", "view", 4), (7, "keyv", "iew", 3), ("7", "key", "view", 3), (7, "key", "view")]:
        assert first != generator(*other).random(4).tolist()


def test_the_stream_is_pinned_across_versions() -> None:
    assert generator(0, "pin").integers(0, 1 << 30, 3).tolist() == PINNED


PINNED = [212235599, 288423313, 437548066]
