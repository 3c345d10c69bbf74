"""The packages of the wheel: all of patchlab/, and assets/ as patchlab/assets. Everything else is in pyproject.toml."""

from setuptools import find_packages, setup

setup(packages=[*find_packages(include=["patchlab", "patchlab.*"]), "patchlab.assets"],
      package_dir={"patchlab.assets": "assets"})
