"""What starts a connector besides its schedule and people."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from graphlib import CycleError, TopologicalSorter
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from aiia_pipelines.config.amounts import Lookback
from aiia_pipelines.config.checks import refused
from aiia_pipelines.config.faults import nearest
from aiia_pipelines.config.fields import Name
from aiia_pipelines.config.secrets import reference_mistake

_LONGEST = 86_400  # seconds


def _span(text: str) -> str:
    """Accept a span of time such as 30s."""
    try:
        seconds = Lookback.parse(text).seconds or 0
    except ValueError:
        raise refused("must be a time such as 30s (s, m, h, d)") from None
    if not 1 <= seconds <= _LONGEST:
        raise refused("must be at least 1s and at most 1d")
    return text


def _secret(text: str) -> str:
    """Accept a reference to a secret, never the secret itself."""
    if mistake := reference_mistake(text):
        raise refused(mistake)
    return text


def _given(value: object) -> object:
    """Take a key that stands without a value for one that is given as it is by default."""
    return {} if value is None else value


_Span = Annotated[str, AfterValidator(_span)]
_Secret = Annotated[str, AfterValidator(_secret)]


class _Part(BaseModel):
    """A part of the key: closed, unchangeable, and silent about its values."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class Webhook(_Part):
    """Calls of other systems, signed with a secret that both sides know."""

    secret: _Secret
    per_minute: Annotated[int, Field(ge=1, le=6000)] = 60


class FileArrival(_Part):
    """Files that are new or changed at the source: how often it looks, how long they must be still."""

    every: _Span = "30s"
    settle: _Span = "10s"

    @property
    def every_seconds(self) -> int:
        """Seconds between two looks."""
        return Lookback.parse(self.every).seconds or 0

    @property
    def settle_seconds(self) -> int:
        """Seconds without a change after which the files count as complete."""
        return Lookback.parse(self.settle).seconds or 0


class Triggers(_Part):
    """The key `triggers` of a connector file."""

    webhook: Annotated[Webhook | None, BeforeValidator(_given)] = None
    files: Annotated[FileArrival | None, BeforeValidator(_given)] = None
    after: list[Name] = Field(default_factory=list)


# A place in `after`, and what is wrong with it.
LinkMistake = tuple[int, str]


def link_mistakes(
    links: Mapping[str, Sequence[str]], known: Sequence[str]
) -> dict[str, list[LinkMistake]]:
    """Find what no connector alone can know: names that nothing bears, and circles.

    `links` gives each connector those that it comes after, `known` the names of all connectors.
    """
    found: dict[str, list[LinkMistake]] = {}
    names = set(known)
    # Ways are looked for only when there are circles: a thousand links without one are checked in passing.
    circling = links if _has_circle(links) else {}
    for name, before in links.items():
        mistakes = [
            (place, mistake)
            for place, other in enumerate(before)
            if (mistake := _link_mistake(name, other, circling, names))
        ]
        if mistakes:
            found[name] = mistakes
    return found


def _has_circle(links: Mapping[str, Sequence[str]]) -> bool:
    try:
        TopologicalSorter(links).prepare()
    except CycleError:
        return True
    return False


def _link_mistake(
    name: str, before: str, links: Mapping[str, Sequence[str]], known: AbstractSet[str]
) -> str:
    if before not in known:
        return f"no connector is named '{before}'{nearest(before, known)}"
    circle = _way(before, name, links)
    if not circle:
        return ""
    told = " → ".join([*reversed(circle), name])
    return f"goes in a circle, {told}; take one of them out, or none of them is started by another"


def _way(start: str, end: str, links: Mapping[str, Sequence[str]]) -> list[str]:
    """Find a way along the links, from start to end; nothing when there is none."""
    ways = [[start]]
    seen = {start}
    for way in ways:
        if way[-1] == end:
            return way
        for following in links.get(way[-1], ()):
            if following not in seen:
                seen.add(following)
                ways.append([*way, following])
    return []
