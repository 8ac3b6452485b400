from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from helix4d.core.captured import captured_output
from helix4d.core.processes import child_environment


def test_output_of_native_code_is_captured(capfd: pytest.CaptureFixture[str]) -> None:
    os.write(1, b"before ")
    with captured_output(1, 2) as output:
        os.write(1, b"from 1 ")
        os.write(2, b"from 2")
        print(" from Python")
        assert output.tail() == "from 1 from 2 from Python\n"
        print("late", end="")
    assert output.tail() == "from 1 from 2 from Python\nlate"
    os.write(1, b"after")
    assert capfd.readouterr() == ("before after", "")


def test_one_descriptor_is_left_alone_and_errors_restore_it(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="stop"), captured_output(1) as output:
        os.write(1, b"x" * 5000)
        os.write(2, b"seen")
        raise ValueError("stop")
    assert output.tail() == "x" * 2000
    os.write(1, b"again")
    assert capfd.readouterr() == ("again", "seen")


def test_threads_take_turns(capfd: pytest.CaptureFixture[str]) -> None:
    tails: dict[int, str] = {}

    def print_some(number: int) -> None:
        for _ in range(50):
            with captured_output(1, 2) as output:
                os.write(1, b"%d" % number)
                tails[number] = output.tail()

    threads = [threading.Thread(target=print_some, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tails == {number: str(number) for number in range(8)}
    os.write(2, b"still here")
    assert capfd.readouterr() == ("", "still here")


def test_the_beginning_can_be_read_and_later_output_follows() -> None:
    with captured_output(1, 2) as output:
        os.write(2, b"first " + b"x" * 70_000)
        assert output.head() == "first " + "x" * (65_536 - 6)
        os.write(1, b"last")
    assert output.tail().endswith("xlast")


def test_the_trace_of_a_crash_reaches_the_original_descriptor() -> None:
    code = (
        "import ctypes, faulthandler\nfrom helix4d.core.captured import captured_output\nfaulthandler.enable()\n"
        "with captured_output(1, 2):\n    pass\n"
        "with captured_output(1, 2):\n    print('captured')\n    ctypes.string_at(0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=child_environment())
    assert done.returncode < 0
    assert "Segmentation fault" in done.stderr
    assert "captured" not in done.stdout + done.stderr.replace("captured_output", "")
