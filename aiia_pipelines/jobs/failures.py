"""The failures of job runs: the catalogue, and the way from an exception to its row."""

from aiia_pipelines.jobs.catalogue import CATALOGUE, FailureClass, Origin
from aiia_pipelines.jobs.classify import badge_of, classify
from aiia_pipelines.jobs.failure import Failure

__all__ = ["CATALOGUE", "Failure", "FailureClass", "Origin", "badge_of", "classify"]
