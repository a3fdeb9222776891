"""The web server that `aiia up` starts: whether it answers, and what it is asked by GraphQL."""

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiia_pipelines.local.running import Running

# Under which names Dagster has loaded the connectors.
LOCATION, REPOSITORY = "aiia_pipelines", "__repository__"


class NoAnswer(Exception):
    """The web server gave no usable answer; the text says what came instead."""


class Refused(NoAnswer):
    """The web server answered that it will not do what was asked."""


def answers(url: str, timeout: float) -> bool:
    """Tell whether a web server of ours is ready at a URL, within so many seconds."""
    try:
        with urllib.request.urlopen(f"{url}/server_info", timeout=timeout):  # noqa: S310 - our own http URL
            return True
    except (urllib.error.URLError, OSError):
        return False


def address(home: Path, timeout: float) -> str | None:
    """Give the URL of the web server that `aiia up` started for a home, if it answers."""
    running = Running.read(home)
    return running.url if running is not None and answers(running.url, timeout) else None


def ask(
    url: str, query: str, variables: Mapping[str, Any] | None = None, *, timeout: float
) -> dict[str, Any]:
    """Ask by GraphQL.

    Raises:
        NoAnswer: It does not answer.
        Refused: It answers with errors.
    """
    body = json.dumps({"query": query, "variables": variables or {}}).encode()
    request = urllib.request.Request(  # noqa: S310 - our own http URL
        f"{url}/graphql", data=body, headers={"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:  # noqa: S310
            told = json.load(answer)
    except (OSError, ValueError) as fault:
        raise NoAnswer(str(fault)) from fault
    if told.get("errors"):
        raise Refused(str(told["errors"][0].get("message", "")))
    data: dict[str, Any] = told["data"]
    return data
