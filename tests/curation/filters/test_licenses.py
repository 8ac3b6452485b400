from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helix4d.core import ConfigError
from helix4d.curation.filters.licenses import License, asset_license, license_text, parse_license, parse_license_list

CODES = ("by", "by-sa", "by-nc", "by-nd", "by-nc-sa", "by-nc-nd")


def license_of(code: str) -> License:
    return License(**dict.fromkeys(code.split("-"), True))


KNOWN = {
    # TexVerse and Sketchfab: labels, slugs, URLs.
    "CC Attribution": "by",
    "CC Attribution-ShareAlike": "by-sa",
    "CC Attribution-NoDerivs": "by-nd",
    "CC Attribution-NonCommercial": "by-nc",
    "CC Attribution-NonCommercial-ShareAlike": "by-nc-sa",
    "CC Attribution-NonCommercial-NoDerivs": "by-nc-nd",
    "CC0 Public Domain": "cc0",
    "by": "by",
    "CC-BY-4.0 (http://creativecommons.org/licenses/by/4.0/)": "by",
    "CC-BY-NC-4.0 (http://creativecommons.org/licenses/by-nc/4.0/)": "by-nc",
    # Thingiverse, Objaverse, SPDX, VRM.
    "Creative Commons - Attribution - Non-Commercial - No Derivatives": "by-nc-nd",
    "Creative Commons - Attribution - Share Alike": "by-sa",
    "Creative Commons - Public Domain Dedication": "cc0",
    "Attribution-NonCommercial-NoDerivs": "by-nc-nd",
    "Attribution-NonCommercial 4.0 International": "by-nc",
    "Creative Commons Attribution 4.0 International (CC BY 4.0)": "by",
    "https://spdx.org/licenses/CC-BY-NC-SA-3.0.html": "by-nc-sa",
    "CC_BY_NC_ND": "by-nc-nd",
    "CCBYNCSA": "by-nc-sa",
    "byncnd": "by-nc-nd",
    "CC–BY–NC 2.0": "by-nc",
    "https://creativecommons.org/licenses/by-nc-nd/3.0/de/deed.de": "by-nc-nd",
    "http://creativecommons.org/publicdomain/zero/1.0/": "cc0",
    "creativecommons.org/publicdomain/mark/1.0": "cc0",
    "CC0": "cc0",
    "CC-0": "cc0",
    "CC Zero": "cc0",
    "CC0-1.0": "cc0",
    "Public Domain": "cc0",
    "PDM": "cc0",
    "CC BY-NC-SA 3.0 US": "by-nc-sa",
    "by-nc-sa 3.0 us": "by-nc-sa",
    # Sentences.
    "CC-BY 4.0 Model by PixelMannen https://opengameart.org/content/fox-and-shiba and others": "by",
    "CC-BY 4.0 Copyright 2021 Analytical Graphics, Inc. Model and Textures by Ed Mackey.": "by",
    "CC0. Made by Kenney": "cc0",
    "CC BY, but not for any commercial purpose": "by-nc",
    "CC BY; please do not modify the model": "by-nd",
    "CC-BY for personal use only": "by-nc",
    "Licensed under the Creative Commons Attribution-NonCommercial license, see readme.txt": "by-nc",
    "CC0-1.0 (model) AND CC-BY-4.0 (rig, animation, conversion)": "by",
    "CC-BY-4.0 + trademark limits (LicenseRef-CC-BY-TM)": "by",
    "CC-BY-NC for the model, CC-BY-ND for the textures": "by-nc-nd",
}
UNKNOWN = [
    "",
    "Standard",
    "Free Standard",
    "Editorial",
    "ed",
    "st",
    "MIT",
    "GNU GPL",
    "CC-GNU GPL",
    "Made by Jane",
    "Model by Nd Smith",
    "© Foo S.A.",
    "Creative Commons",
    "Creative Commons by Jane",
    "see https://creativecommons.org/licenses/ for what there is",
    "https://creativecommons.org/licenses/sampling+/1.0/",
    "CC-BY, all rights reserved",
    "not in the public domain",
    "no commercial use",
    "sand",
    "attribution: Jane",
]


@pytest.mark.parametrize(("text", "name"), KNOWN.items())
def test_spellings_found_in_the_wild(text: str, name: str) -> None:
    found = parse_license(text)
    assert found is not None
    assert found.name == (name if name == "cc0" else license_of(name).name)


@pytest.mark.parametrize("text", UNKNOWN)
def test_other_licenses_are_unknown(text: str) -> None:
    assert parse_license(text) is None


WORDS = {
    "by": ("BY", "by", "Attribution"),
    "sa": ("SA", "sa", "ShareAlike", "Share Alike", "Share-Alike", "Sharealike"),
    "nc": ("NC", "nc", "NonCommercial", "Non-Commercial", "Noncommercial", "non commercial"),
    "nd": ("ND", "nd", "NoDerivs", "NoDerivatives", "No Derivatives", "No-Derivs", "No Derivative Works"),
}


@given(
    code=st.sampled_from(CODES),
    prefix=st.sampled_from(["", "CC ", "CC-", "CC_", "Creative Commons ", "Creative Commons - ", "(cc) "]),
    separator=st.sampled_from(["-", " ", "_", " - ", ", ", "–", "/"]),
    version=st.sampled_from(
        ["", " 4.0", "-3.0", " 4.0 International", " v2.5", " 3.0 Unported", " license", " Licence 4.0"]
    ),
    case=st.sampled_from([str, str.lower, str.upper]),
    data=st.data(),
)
def test_generated_spellings(
    code: str, prefix: str, separator: str, version: str, case: object, data: st.DataObject
) -> None:
    words = [data.draw(st.sampled_from(WORDS[piece])) for piece in code.split("-")]
    text = case(prefix + separator.join(words) + version)  # type: ignore[operator]
    assert parse_license(text) == license_of(code), text


@given(code=st.sampled_from(CODES), version=st.sampled_from(["1.0", "2.5", "3.0", "4.0"]), data=st.data())
def test_urls_in_any_shape(code: str, version: str, data: st.DataObject) -> None:
    scheme = data.draw(st.sampled_from(["", "http://", "https://", "https://www."]))
    tail = data.draw(st.sampled_from(["", "/", "/legalcode", "/us/", "/deed.de", ")"]))
    assert parse_license(f"{scheme}creativecommons.org/licenses/{code}/{version}{tail}") == license_of(code)


@given(text=st.text(max_size=60))
def test_any_text_is_parsed(text: str) -> None:
    found = parse_license(text)
    assert found is None or parse_license(found.name) == found


@given(first=st.sampled_from(CODES), second=st.sampled_from([*CODES, "cc0"]))
def test_conditions_of_two_licenses_add_up(first: str, second: str) -> None:
    found = parse_license(
        f"CC-{first} (model) AND CC-{second} (textures)" if second != "cc0" else f"CC-{first} and CC0"
    )
    pieces = set(first.split("-")) | set(second.split("-")) - {"cc0"}
    assert found == License(**dict.fromkeys(pieces, True))


def test_names_are_canonical_and_distinct() -> None:
    names = set()
    for demands in itertools.product([False, True], repeat=4):
        if any(demands):
            license = License(*demands)  # noqa: A001
            assert parse_license(license.name) == license
            names.add(license.name)
    assert len(names) == 15
    with pytest.raises(ValueError, match="at least one condition"):
        License(by=True, public_domain=True)
    with pytest.raises(ValueError, match="at least one condition"):
        License()


def test_licenses_in_extras_of_any_shape() -> None:
    sketchfab = {
        "slug": "by-nc",
        "label": "CC Attribution-NonCommercial",
        "url": "http://creativecommons.org/licenses/by-nc/4.0/",
    }
    for extras, expected in [
        ({"license": "CC-BY-4.0 (http://creativecommons.org/licenses/by/4.0/)"}, License(by=True)),
        ({"License": sketchfab}, License(by=True, nc=True)),
        ({"licence": ["CC0"]}, License(public_domain=True)),
        ({"copyright": "CC-BY 4.0 Model by PixelMannen"}, License(by=True)),
        ({"license": "MIT", "copyright": "CC0"}, None),  # what the file says under license counts
        ({"copyright": "2021 Jane, made by Jane"}, None),
        ({"license": 7}, None),
        ({}, None),
    ]:
        assert asset_license(extras) == expected, extras
    assert license_text({"license": sketchfab}).startswith("by-nc; ")


def test_a_list_of_licenses_in_any_spelling() -> None:
    assert parse_license_list("cc0,by,CC Attribution-ShareAlike") == {"cc0", "by", "by-sa"}
    assert parse_license_list("") == frozenset()
    with pytest.raises(ConfigError, match="'mit' is not a Creative Commons license"):
        parse_license_list("cc0,mit")


def test_licenses_of_file_and_source_are_combined() -> None:
    for extras, metadata, expected in (
        ({}, {"license": "CC BY"}, "by"),
        ({"license": "CC BY"}, {}, "by"),
        ({"license": "CC BY"}, {"license": "by", "artist": "CC0"}, "by"),
        ({"license": "CC BY-SA"}, {"license": "CC BY-NC"}, "by-nc-sa"),
        ({"license": "CC0"}, {"license": "CC BY"}, "by"),
        ({"license": "CC0"}, {"license": "Public Domain"}, "cc0"),
        ({"copyright": "2020 Ada"}, {"license": "CC BY"}, "by"),
        ({"copyright": "2020 Ada"}, {}, None),
        ({"copyright": "CC BY-NC, Ada"}, {"license": "CC BY"}, "by-nc"),
        ({"copyright": "Ada, all rights reserved"}, {"license": "CC BY"}, None),
        ({"license": "mine"}, {"license": "CC BY"}, None),
        ({"license": "CC BY"}, {"license": "Standard"}, None),
        ({}, {"artist": "Ada"}, None),
    ):
        found = asset_license(extras, metadata)
        assert (found.name if found else None) == expected, (extras, metadata)
    assert license_text({"license": "A"}, {"license": "B"}) == "A | B"
    assert license_text({}, {"license": "B"}) == "B"
