from __future__ import annotations

import copy

from helix4d.core import AssetError, AssetState, ReasonCode


def test_every_reason_code_maps_to_filtered_or_failed() -> None:
    states = {code.state for code in ReasonCode}
    assert states == {AssetState.FILTERED, AssetState.FAILED}
    assert ReasonCode.DUPLICATE.state is AssetState.FILTERED
    assert ReasonCode.TIMEOUT.state is AssetState.FAILED


def test_asset_errors_name_the_file_and_survive_pickling() -> None:
    error = AssetError(ReasonCode.CORRUPT_FILE, "ends at byte 60 of 100", "/somewhere/fox.glb")
    assert str(error) == "fox.glb: ends at byte 60 of 100 [corrupt_file]"
    again = copy.copy(error)
    assert (again.code, str(again)) == (error.code, str(error))
