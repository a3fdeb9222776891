"""Switching a connector's schedule on and off through the running web server."""

from collections.abc import Mapping
from typing import Any

from aiia_pipelines.local.web import LOCATION, REPOSITORY, NoAnswer, Refused, ask

_SECONDS = 30
_FIND = """
query Find($schedule: ScheduleSelector!) {
  found: scheduleOrError(scheduleSelector: $schedule) {
    __typename
    ... on Schedule { scheduleState { id } }
    ... on ScheduleNotFoundError { message }
    ... on PythonError { message }
  }
}
"""
_ON = """
mutation On($schedule: ScheduleSelector!) {
  found: startSchedule(scheduleSelector: $schedule) {
    __typename
    ... on ScheduleNotFoundError { message }
    ... on UnauthorizedError { message }
    ... on PythonError { message }
  }
}
"""
_OFF = """
mutation Off($id: String!) {
  found: stopRunningSchedule(id: $id) {
    __typename
    ... on ScheduleNotFoundError { message }
    ... on UnauthorizedError { message }
    ... on PythonError { message }
  }
}
"""


def switch(url: str, connector: str, *, on: bool) -> None:
    """Switch the schedule of a connector.

    Raises:
        NoAnswer: The web server gave no usable answer.
        Refused: It does not know the schedule, or does not let it be switched.
    """
    selector = {
        "repositoryLocationName": LOCATION,
        "repositoryName": REPOSITORY,
        "scheduleName": f"schedule__{connector}",
    }
    if on:
        _asked(url, _ON, {"schedule": selector})
    else:
        found = _asked(url, _FIND, {"schedule": selector})
        _asked(url, _OFF, {"id": found["scheduleState"]["id"]})


def _asked(url: str, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = ask(url, query, variables, timeout=_SECONDS)["found"]
    if "message" in found:
        raise Refused((found["message"].strip().splitlines() or [""])[0])
    return found


__all__ = ["NoAnswer", "Refused", "switch"]
