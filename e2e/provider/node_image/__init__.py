"""The kind node image: found where there is one, built here where no registry answers."""

from e2e.provider.node_image.choose import (
    AGNHOST,
    DEFAULT,
    SUPPORTED,
    NodeImage,
    find_local,
    resolve,
)

__all__ = ["AGNHOST", "DEFAULT", "SUPPORTED", "NodeImage", "find_local", "resolve"]
