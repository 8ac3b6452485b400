from __future__ import annotations

import argparse
import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from helix4d.core import FormatError
from helix4d.evaluation.learned.weights import Networks, hub_file, linked_file, load_named, read_tensors

HUB = hub_file("ulip", "SFXX/ulip", "ULIP-2/model.pt", kind="dataset")
LINK = linked_file("lpips/alex.pth", "https://example.org/alex.pth")


class Runs:
    """Payload of a hostile checkpoint, which runs code when unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("this ran",))


def test_options_and_scores_of_a_training_checkpoint_are_accepted(tmp_path: Path) -> None:
    document = {
        "state_dict": {"a": torch.arange(3.0)},
        "args": argparse.Namespace(lr=0.1, names=["x"]),
        "best_acc1": np.float64(84.7),
        "epoch": 3,
    }
    torch.save(document, tmp_path / "checkpoint.pt")
    tensors = read_tensors(tmp_path / "checkpoint.pt")
    assert set(tensors) == {"a"}
    assert tensors["a"].tolist() == [0, 1, 2]


def test_a_scalar_of_numpy_1_is_read(tmp_path: Path) -> None:
    stream = io.BytesIO()
    torch.save({"state_dict": {"a": torch.ones(1)}, "best": np.float64(1)}, stream)
    source = zipfile.ZipFile(stream)
    with zipfile.ZipFile(tmp_path / "old.pt", "w", zipfile.ZIP_STORED) as target:
        for name in source.namelist():
            data = source.read(name)
            target.writestr(name, data.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"))
    assert set(read_tensors(tmp_path / "old.pt")) == {"a"}


def test_the_format_before_zip_files_is_read(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert read_tensors(tmp_path / "old.pth")["a"].tolist() == [1, 1]


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str], zipped: bool) -> None:
    path = tmp_path / "hostile.pt"
    torch.save({"a": torch.ones(1), "b": Runs()}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(FormatError, match="nothing in it was run"):
        read_tensors(path)
    path.write_bytes(pickle.dumps(Runs()))
    with pytest.raises(FormatError, match="nothing in it was run"):
        read_tensors(path)
    assert "this ran" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["broken.pt", "broken.safetensors"])
def test_other_files_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(FormatError, match=name):
        read_tensors(tmp_path / name)


def test_a_file_without_a_dictionary_is_refused(tmp_path: Path) -> None:
    torch.save([torch.ones(1)], tmp_path / "list.pt")
    with pytest.raises(FormatError, match="holds a list"):
        read_tensors(tmp_path / "list.pt")


def test_unused_tensors_are_allowed_and_others_are_not() -> None:
    def build() -> nn.Linear:
        return nn.Linear(2, 3)

    tensors = {"weight": torch.ones(3, 2, dtype=torch.float16), "bias": torch.ones(3), "head.weight": torch.ones(1)}
    network = load_named(build, tensors, "x.pt", unused=("head.",))
    assert network.weight.dtype == torch.float32
    assert not network.weight.requires_grad
    with pytest.raises(FormatError, match=r"x\.pt: does not match Linear: 0 tensors missing \[\], 1 unknown"):
        load_named(build, tensors, "x.pt")
    with pytest.raises(FormatError, match=r"1 tensors missing \['bias'\]"):
        load_named(build, {"weight": tensors["weight"]}, "x.pt")
    with pytest.raises(FormatError, match=r"weight \(2, 2\) instead of \(3, 2\)"):
        load_named(build, {"weight": torch.ones(2, 2), "bias": torch.ones(3)}, "x.pt")


def test_batch_counts_may_be_missing() -> None:
    state = nn.BatchNorm1d(2).state_dict()
    count = state.pop("num_batches_tracked")
    network = load_named(lambda: nn.Sequential(nn.BatchNorm1d(2)), {f"0.{k}": v for k, v in state.items()}, "x.pt")
    assert torch.equal(network.state_dict()["0.num_batches_tracked"], count)


def test_missing_files_are_reported_with_their_download_commands(tmp_path: Path) -> None:
    hub = f"hf download SFXX/ulip ULIP-2/model.pt --repo-type dataset --local-dir {tmp_path}/ulip"
    curl = f"curl -fL --create-dirs -o {tmp_path}/lpips/alex.pth https://example.org/alex.pth"
    assert Networks(tmp_path).missing([HUB, LINK]) == f"weights missing: {hub}; {curl}; then --weights {tmp_path}"
    assert "--local-dir DIR/ulip; then --weights DIR" in str(Networks(None).missing([HUB]))
    path = tmp_path / "ulip/ULIP-2/model.pt"
    path.parent.mkdir(parents=True)
    path.touch()
    assert Networks(tmp_path).missing([HUB]) is None
    assert Networks(tmp_path).path(HUB) == path
    with pytest.raises(FormatError, match="curl"):
        Networks(tmp_path).path(LINK)


def test_commands_quote_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "my weights"
    assert f"--local-dir '{folder}'/ulip; then --weights '{folder}'" in str(Networks(folder).missing([HUB]))


def test_a_network_is_built_once() -> None:
    networks, built = Networks(None), []

    def build() -> nn.Module:
        built.append(1)
        return nn.Linear(1, 1)

    first = networks.get("a", torch.device("cpu"), build)
    assert networks.get("a", torch.device("cpu"), build) is first
    assert networks.get("b", torch.device("cpu"), build) is not first
    assert len(built) == 2
    assert not first.training


def test_a_network_is_read_from_below_a_prefix() -> None:
    tensors = {"a.weight": torch.ones(3, 2), "a.bias": torch.ones(3), "c": torch.ones(1)}
    assert load_named(lambda: nn.Linear(2, 3), tensors, "x.pt", prefix="a.").weight.sum() == 6
    with pytest.raises(FormatError, match=r"x\.pt: no tensors for Linear: expected names that begin with b\."):
        load_named(lambda: nn.Linear(2, 3), tensors, "x.pt", prefix="b.")


def test_prefixes_of_parallel_training_are_removed(tmp_path: Path) -> None:
    torch.save({"module": {"module.a": torch.ones(1), "b": torch.ones(1)}}, tmp_path / "x.pt")
    assert set(read_tensors(tmp_path / "x.pt")) == {"a", "b"}
