"""The stand-in for a GPU refuses to mix devices like a GPU, and computes the same results as the CPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.another_device import another_device


def test_mixing_tensors_of_two_devices_is_an_error() -> None:
    with another_device() as device:
        local, remote = torch.ones(3), torch.ones(3, device=device)
        for mixing in (
            lambda: local + remote,
            lambda: torch.cat([local, remote]),
            lambda: torch.equal(local, remote),
            lambda: torch.nn.functional.linear(local, torch.ones(2, 3, device=device)),
            lambda: remote.index_add_(0, torch.tensor([0]), torch.ones(1)),
        ):
            with pytest.raises(RuntimeError, match="two devices"):
                mixing()
        for conversion in (remote.numpy, lambda: np.asarray(remote)):
            with pytest.raises(TypeError, match="copy it to the CPU first"):
                conversion()
        assert (remote + torch.tensor(2.0)).tolist() == [3, 3, 3]
        assert remote[torch.tensor([0, 2])].device.type == device.type
        assert (remote.cpu() + local).tolist() == [2, 2, 2]
        copied = remote.to("cpu")
        remote.zero_()
        assert copied.tolist() == [1, 1, 1]


def test_training_steps_equal_those_on_the_cpu() -> None:
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
        parameters = trained(device)
    for parameter, reference in zip(parameters, expected, strict=True):
        torch.testing.assert_close(parameter, reference)
