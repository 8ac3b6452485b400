"""The stand-in for a GPU refuses what a GPU refuses, and computes what the CPU computes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.another_device import another_device


def test_tensors_of_two_devices_do_not_meet() -> None:
    with another_device() as device:
        here, there = torch.ones(3), torch.ones(3, device=device)
        for meeting in (
            lambda: here + there,
            lambda: torch.cat([here, there]),
            lambda: torch.equal(here, there),
            lambda: torch.nn.functional.linear(here, torch.ones(2, 3, device=device)),
            lambda: there.index_add_(0, torch.tensor([0]), torch.ones(1)),
        ):
            with pytest.raises(RuntimeError, match="two devices"):
                meeting()
        for conversion in (there.numpy, lambda: np.asarray(there)):
            with pytest.raises(TypeError, match="copy it to the CPU first"):
                conversion()
        assert (there + torch.tensor(2.0)).tolist() == [3, 3, 3]
        assert there[torch.tensor([0, 2])].device.type == device.type
        assert (there.cpu() + here).tolist() == [2, 2, 2]
        copied = there.to("cpu")
        there.zero_()
        assert copied.tolist() == [1, 1, 1]


def test_a_step_of_training_is_the_cpus() -> None:
    def trained(device: torch.device) -> list[torch.Tensor]:
        torch.manual_seed(0)
        network = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.GELU(), torch.nn.Linear(8, 2)).to(device)
        optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            network(torch.linspace(0, 1, 20).view(5, 4).to(device)).square().mean().backward()
            optimizer.step()
        return [parameter.detach().cpu() for parameter in network.parameters()]

    expected = trained(torch.device("cpu"))
    with another_device() as device:
        found = trained(device)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)
