"""Find the row of the catalogue that an exception belongs to."""

import re

from aiia_pipelines.jobs.badge import Badge
from aiia_pipelines.jobs.catalogue import CATALOGUE, FailureClass
from aiia_pipelines.jobs.failure import Failure
from aiia_pipelines.jobs.log import headline, headline_at
from aiia_pipelines.jobs.redaction import REDACTOR
from aiia_pipelines.jobs.signal_words import CHATTER, TOLD_SERVER
from aiia_pipelines.jobs.signals import (
    LONGEST_TEXT,
    attribute,
    chain_of,
    class_name,
    clues_of,
    is_translated,
    text_of,
)

_LONGEST_PLACE = 100

_BY_SIGNAL = {signal: row for row in CATALOGUE.values() for signal in row.signals}
_UNCLASSIFIED = CATALOGUE["unclassified"]

_FOOTNOTE = re.compile(r"\s*\(Background on this error at: \S+\)")


def badge_of(code: str) -> Badge:
    """Return the badge of a code; one this version does not know counts as unclassified."""
    return CATALOGUE.get(code, _UNCLASSIFIED).badge


def classify(exc: BaseException, *, side: str = "source", stage: str = "") -> Failure:
    """Return the failure an exception stands for; never raises."""
    chain = list(chain_of(exc))
    kind, told_by = _UNCLASSIFIED, exc
    for clue in clues_of(chain):
        row = _row(clue.signal, side, stage)
        if row is not None:
            kind, told_by = row, clue.exc
            break
    place = next(filter(None, map(_place, (told_by, *chain))), "")
    # A fault that was already translated has the better sentence, whatever gave the signal.
    speaker = next(filter(is_translated, chain), told_by)
    said = _said(kind, speaker)
    if kind is _UNCLASSIFIED:
        said = _unknown(chain, speaker, said)
    line = headline_at(said, place) if place and place not in said else headline(said)
    return Failure(kind, line, place)


def _row(signal: str, side: str, stage: str) -> FailureClass | None:
    """Return the row that claims a signal: its side first, then its stage, then the signal."""
    forms = [signal]
    if signal.startswith("sqlstate:"):
        forms.append(signal[: len("sqlstate:XX")])
    elif signal.startswith("http:"):
        forms.append(f"{signal[: len('http:X')]}xx")
    prefixes = ["destination:"] if side == "destination" else []
    prefixes += [f"{stage}:", ""] if stage else [""]
    rows = (_BY_SIGNAL.get(prefix + form) for prefix in prefixes for form in forms)
    return next(filter(None, rows), None)


def _place(exc: BaseException) -> str:
    if place := attribute(exc, "place", str):
        return headline(REDACTOR.clean(place), _LONGEST_PLACE)
    found = TOLD_SERVER.search(text_of(exc))
    if found is None:
        return ""
    place = found["socket"] or f"{found['host']}:{found['port']}"
    return headline(place, _LONGEST_PLACE)


def _said(kind: FailureClass, exc: BaseException) -> str:
    words = _FOOTNOTE.sub("", headline(text_of(exc), LONGEST_TEXT))
    text = headline(CHATTER.sub("", words))
    if not text or text.lower() == kind.title.lower():
        return "" if kind is _UNCLASSIFIED else kind.title
    return text if kind is _UNCLASSIFIED or is_translated(exc) else f"{kind.title}: {text}"


def _unknown(chain: list[BaseException], speaker: BaseException, said: str) -> str:
    """Name the class that no row knows: that of a driver says more than that of our own fault."""
    foreign = next((exc for exc in chain if not is_translated(exc)), speaker)
    name = headline(class_name(foreign), _LONGEST_PLACE)
    return f"{_UNCLASSIFIED.title}: {name}: {said}" if said else f"{_UNCLASSIFIED.title}: {name}"
