"""What pyproject.toml cannot say: the rooms datasets/ and trainer/, the scripts and configs/ go into xdecoder/_rooms.

`xdecoder/rooms.py` says why. In an editable installation they are found in the checkout.
"""

from setuptools import find_packages, setup

ROOMS = {f"xdecoder._rooms.{name}": name.replace(".", "/") for name in find_packages(".", include=["datasets*", "trainer*"])}

setup(
    packages=[*find_packages(".", include=["xdecoder", "xdecoder.*"]), "xdecoder._rooms", *ROOMS],
    package_dir={"xdecoder._rooms": ".", **ROOMS},
    exclude_package_data={"xdecoder._rooms": ["setup.py", "*.txt"]},
    package_data={"xdecoder._rooms": ["configs/**/*.yaml"], "": ["*.json", "*.txt", "py.typed"]},
)
