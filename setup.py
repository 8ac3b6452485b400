"""Maps the folders at the top of the checkout to `helix4d.FOLDER`; everything else is in pyproject.toml."""

from setuptools import find_packages, setup

FOLDERS = [
    *("core", "assets", "voxelize", "render", "curation"),
    *("model", "train", "evaluation", "bench_builder", "cli"),
]
PACKAGES = [package for folder in FOLDERS for package in find_packages(include=[folder, f"{folder}.*"])]

setup(
    packages=["helix4d", *(f"helix4d.{package}" for package in PACKAGES)],
    package_dir={"helix4d": "helix4d", **{f"helix4d.{folder}": folder for folder in FOLDERS}},
)
