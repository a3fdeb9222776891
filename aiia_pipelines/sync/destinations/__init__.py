"""Where rows go to; one module per destination, found by the scheme of its URL."""

from importlib import import_module
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from aiia_pipelines.sync.destinations.base import Destination

UNSET = "unset"  # the scheme of a destination that nobody has given a URL
_OPENERS = {
    "postgresql": ("postgres", "open_postgres"),
    "postgresql+psycopg2": ("postgres", "open_postgres"),
    "duckdb": ("duckdb", "open_duckdb"),
    "parquet": ("parquet", "open_parquet"),
    "file": ("parquet", "open_parquet"),
    "s3": ("parquet", "open_parquet"),
}


def open_destination(url: str) -> "Destination":
    """Open the destination of a URL; nothing is connected yet.

    Raises:
        DestinationFault: The URL is none, or of no known kind.
    """
    module, opener = _module_of(url)
    destination: Destination = getattr(module, opener)(url)
    return destination


def reach(url: str) -> str:
    """Connect to the destination of a URL without changing anything, and name it for people.

    Raises:
        DestinationFault: It cannot be reached or refuses.
    """
    module, _ = _module_of(url)
    return str(module.reach(url))


def collect(url: str, most: int) -> int:
    """Remove at most so much of what attempts that are over left at a destination, and count it.

    Raises:
        DestinationFault: It cannot be reached or refuses.
    """
    module, _ = _module_of(url)
    return int(module.collect(url, most))


def _module_of(url: str) -> tuple[Any, str]:
    scheme = urlsplit(url).scheme
    if scheme not in _OPENERS:
        # Drivers load when they are needed, and this module loads with every other one here.
        from aiia_pipelines.sync.faults import DestinationFault  # noqa: PLC0415

        if scheme == UNSET:
            name = url.partition(":")[2]
            raise DestinationFault(
                f"The destination {name} has no URL; set AIIA_DESTINATION_{name.upper()}.",
                "config:invalid",
            )
        known = "postgresql://, duckdb:///, parquet:/// or s3://"
        raise DestinationFault(
            f"The URL of the destination must begin with {known};"
            " set AIIA_DESTINATION_<NAME> to one of these.",
            "config:invalid",
        )
    module, opener = _OPENERS[scheme]
    return import_module(f"{__name__}.{module}"), opener


def destination_at(url: str) -> "Destination":
    """Open the destination of a URL; what is wrong with the URL is said when it is to connect."""
    # Drivers load when they are needed, and this module loads with every other one here.
    from aiia_pipelines.sync.destinations._nowhere import Nowhere  # noqa: PLC0415
    from aiia_pipelines.sync.faults import DestinationFault  # noqa: PLC0415

    try:
        return open_destination(url)
    except DestinationFault as fault:
        return Nowhere(fault)
