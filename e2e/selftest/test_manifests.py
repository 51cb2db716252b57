"""The manifests: what is written in several places is the same everywhere."""

import re

import pytest

from e2e.cluster.manifest import FOLDER
from e2e.provider.pins import read_pins

IMAGE = re.compile(r"^\s*image: *(\S+)", re.MULTILINE)


@pytest.mark.parametrize("name", ["echo.yaml", "myapp.yaml"])
def test_pods_run_the_image_that_a_node_image_carries(name):
    """A node image brings agnhost under one name, and that is what the manifests ask for."""
    assert IMAGE.findall((FOLDER / name).read_text()) == [read_pins().agnhost_image]
