"""Every way a job run can go wrong: one row each, found by its signals."""

from typing import Literal, get_args

from aiia_pipelines.jobs._catalogue_arabic import ARABIC
from aiia_pipelines.jobs._catalogue_data import DATA
from aiia_pipelines.jobs._catalogue_destination import DESTINATION
from aiia_pipelines.jobs._catalogue_network import AUTHENTICATION, NETWORK
from aiia_pipelines.jobs._catalogue_own import CONFIGURATION, PLATFORM, RESOURCES, USER
from aiia_pipelines.jobs._catalogue_row import Category, FailureClass, Origin, Texts
from aiia_pipelines.jobs._catalogue_source import PROTOCOL, SOURCE

__all__ = [
    "CATALOGUE",
    "LANGUAGES",
    "Category",
    "FailureClass",
    "Language",
    "Origin",
    "Texts",
    "texts_of",
]

Language = Literal["en", "ar"]
LANGUAGES: tuple[Language, ...] = get_args(Language)

_ROWS = (
    *NETWORK,
    *AUTHENTICATION,
    *SOURCE,
    *PROTOCOL,
    *DATA,
    *CONFIGURATION,
    *RESOURCES,
    *DESTINATION,
    *PLATFORM,
    *USER,
)

CATALOGUE: dict[str, FailureClass] = {row.code: row for row in _ROWS}


def texts_of(row: FailureClass, language: Language = "en") -> Texts:
    """Return title, cause and remedy of a row in a language."""
    if language == "ar":
        return ARABIC[row.code]
    return Texts(row.title, row.cause, row.remedy)
