"""Text from files cannot control the terminal or imitate a line of output."""

from __future__ import annotations

import logging
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helix4d.core import setup_logging
from helix4d.core.terminal import printable, printable_line, shell_command


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[2Jb", r"a\x1b[2Jb"),
        ("a\rb", r"a\x0db"),
        ("a\u202egnp.exe", r"a\u202egnp.exe"),
        ("\x9b31m", r"\u009b31m"),
        ("\udcff", r"\udcff"),
        ("scène 椅子 ×", "scène 椅子 ×"),
    ],
)
def test_what_a_terminal_acts_on_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable_line(text) == shown


def test_a_name_cannot_start_a_line() -> None:
    assert printable("a\nb") == "a\nb"
    assert printable_line("x\n  rm -rf ~") == r"x\n  rm -rf ~"


WORDS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=8)


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@given(st.lists(WORDS, min_size=1, max_size=4))
def test_a_command_is_one_line_that_the_shell_reads_back(words: list[str]) -> None:
    command = shell_command(["printf", r"%s\0", *words])
    assert "\n" not in command
    assert printable_line(command) == command
    found = subprocess.run(["bash", "-c", command], capture_output=True, check=True, env={"LC_ALL": "C.UTF-8"}).stdout
    assert found.decode().split("\0")[:-1] == words


def test_log_messages_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    before = logging.getLogger().handlers[:]
    try:
        setup_logging()
        logging.getLogger("helix4d.test").warning("%s: broken", "a\x1b]0;title\x07")
        assert r"a\x1b]0;title\x07: broken" in capsys.readouterr().err
    finally:
        logging.getLogger().handlers[:] = before
