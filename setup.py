"""What pyproject.toml cannot say: the rooms datasets/ and trainer/, the scripts and configs/ go into xdecoder/_rooms.

`xdecoder/rooms.py` says why. In an editable installation they are found in the checkout.
"""

from setuptools import find_namespace_packages, find_packages, setup
from setuptools.command.build_py import build_py

FOLDERS = [*find_packages(".", include=["datasets*", "trainer*"]), *find_namespace_packages(".", include=["configs*"])]
ROOMS = {f"xdecoder._rooms.{name}": name.replace(".", "/") for name in FOLDERS}


class WithoutSetup(build_py):
    """This file lies among the scripts, but is none."""

    def find_package_modules(self, package: str, package_dir: str) -> list[tuple[str, str, str]]:
        return [found for found in super().find_package_modules(package, package_dir) if found[1] != "setup"]


setup(
    cmdclass={"build_py": WithoutSetup},
    packages=[*find_packages(".", include=["xdecoder", "xdecoder.*"]), "xdecoder._rooms", *ROOMS],
    package_dir={"xdecoder._rooms": ".", **ROOMS},
    exclude_package_data={"xdecoder._rooms": ["*.txt"]},
    package_data={
        "xdecoder": ["pocket/*.safetensors", "pocket/*.md"],
        "": ["*.json", "*.txt", "*.yaml", "py.typed"],
    },
)
