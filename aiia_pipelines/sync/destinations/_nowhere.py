"""A destination that cannot be opened, which its job run has to say like any other fault."""

from typing import NoReturn

from aiia_pipelines.sync.destinations.base import Load
from aiia_pipelines.sync.faults import DestinationFault


class Nowhere:
    """What stands for a destination whose URL leads nowhere."""

    def __init__(self, fault: DestinationFault) -> None:
        """Keep the fault until somebody asks to connect."""
        self._fault = fault

    def describe(self) -> str:
        """Name no place."""
        return "no destination"

    def connect(self) -> None:
        """Say what is wrong with the URL.

        Raises:
            DestinationFault: Always.
        """
        raise self._fault

    def land(self, load: Load) -> NoReturn:
        """Take nothing over."""
        del load
        raise self._fault

    def cancel(self) -> None:
        """Stop nothing."""

    def close(self) -> None:
        """Close nothing."""
