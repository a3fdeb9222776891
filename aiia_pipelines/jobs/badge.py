"""The six badges a job run is shown with, and what each asks of the reader."""

from dataclasses import dataclass
from enum import StrEnum


class Badge(StrEnum):
    """The badge families; every job state belongs to one of them."""

    PENDING = "Pending"
    RUNNING = "Running"
    COMPLETED = "Completed"
    FAILED = "Failed"
    ERROR = "Error"
    CANCELLED = "Cancelled"


@dataclass(frozen=True, slots=True)
class Colors:
    """Background and foreground as CSS hex colors, at least 7:1 apart in contrast."""

    background: str
    foreground: str


@dataclass(frozen=True, slots=True)
class BadgeFacts:
    """How one badge looks, what it means and what the reader has to do."""

    icon: str
    light: Colors
    dark: Colors
    meaning: str
    action: str


BADGES: dict[Badge, BadgeFacts] = {
    Badge.PENDING: BadgeFacts(
        "◔",
        Colors("#e8e8ef", "#3f3f52"),
        Colors("#34344a", "#d9d9ea"),
        "The job run is queued and waits for a worker.",
        "None. It usually starts within seconds; the reason is shown when it does not.",
    ),
    Badge.RUNNING: BadgeFacts(
        "▶",
        Colors("#d6e8ff", "#003e80"),
        Colors("#0f3560", "#cfe4ff"),
        "A worker fetches, checks and stages records.",
        "None. The record count moves while it works.",
    ),
    Badge.COMPLETED: BadgeFacts(
        "✓",
        Colors("#d3f2dc", "#0b4f22"),
        Colors("#123d20", "#c8f0d3"),
        "Every record was parsed, matched, reconciled and committed.",
        "None.",
    ),
    Badge.FAILED: BadgeFacts(
        "✕",
        Colors("#ffdad6", "#8c0009"),
        Colors("#5c0d12", "#ffdad6"),
        "The records could not be obtained or stored: network, login, service or capacity.",
        "Check the credentials and the firewall, run a Connection Test, then Retry.",
    ),
    Badge.ERROR: BadgeFacts(
        "!",
        Colors("#ffe4c2", "#663c00"),
        Colors("#4f3000", "#ffe0b5"),
        "The connection worked, but the data broke the contract.",
        "Read the traceback, correct the mapping or the query, then run it again.",
    ),
    Badge.CANCELLED: BadgeFacts(
        "⊘",
        Colors("#e3e3e3", "#444444"),
        Colors("#3a3a3a", "#dcdcdc"),
        "A person stopped the job run; nothing of it was committed.",
        "Dispatch it again if the records are still needed.",
    ),
}
