"""What every connector kind and every destination must do, as pytest classes that third parties subclass too.

A kind's own test is a subclass of `KindSuite` with an `offer` fixture, a destination's one of `DestinationSuite`
with a `ground` fixture; both are told in docs/how-to/write-a-connector-kind.md.
"""

from aiia_pipelines.testing._people import Ground
from aiia_pipelines.testing.destinations import DestinationSuite
from aiia_pipelines.testing.kinds import SAMPLE, KindSuite, Offer

__all__ = ["SAMPLE", "DestinationSuite", "Ground", "KindSuite", "Offer"]
