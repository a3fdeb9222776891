"""The checkers of every fault: what must be true whatever happened."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from world import Content


@dataclass
class Looks:
    """What an onlooker saw during a trial."""

    reads: int = 0
    odd: list[str] = field(default_factory=list)

    def see(self, content: Content, allowed: list[Content]) -> None:
        """C8: a reader sees the old rows or the new ones."""
        self.reads += 1
        if content not in allowed:
            self.odd.append(f"{sum(content.values())} rows that are neither old nor new")


@dataclass(frozen=True)
class After:
    """What is there after a fault or after the end of a trial."""

    content: Content
    ledger: Mapping[str, Mapping[str, Any]]
    state: str | None
    run_key: str
    grown: int | None  # rows that the ledger's entry of this run added
    badges: tuple[str, ...]
    exits: tuple[int | None, ...]


def after_a_fault(old: Content, new: Content, before: After | None, now: After) -> list[str]:
    """C1 to C5, and C10: the content is old or new, and everything else says the same."""
    wrong = []
    committed = now.run_key in now.ledger
    if now.content not in (old, new):
        wrong.append(f"C1: {_difference(now.content, old, new)}")
    elif old != new and committed != (now.content == new):
        wrong.append(f"C2: ledger says {committed}, content says {now.content == new}")
    if now.state is not None and committed != (now.state == now.run_key):
        wrong.append(f"C3: ledger says {committed}, position is of {now.state}")
    if "Completed" in now.badges and not committed:
        wrong.append("C4: Completed without an entry in the ledger")
    if 0 in now.exits and not committed:
        wrong.append("C4: an attempt reported success without an entry in the ledger")
    grown = sum(new.values()) - sum(old.values())
    if committed and now.grown != grown:
        wrong.append(f"C5: {grown} rows more, the ledger says {now.grown}")
    if before is not None and committed:
        last = max((entry["epoch"] for entry in before.ledger.values()), default=0)
        if now.ledger[now.run_key]["epoch"] <= last:
            wrong.append("C10: the epoch of a commit did not grow")
    return wrong


def at_the_end(new: Content, now: After, staging: list[str], *, cancelled: bool) -> list[str]:
    """C4, C7 and C9: the retry is Completed with the new rows, and nothing is left behind."""
    wrong = []
    if now.content != new:
        wrong.append(f"C1: after the retry {_difference(now.content, new, new)}")
    if now.badges[-1] != "Completed":
        wrong.append(f"C4: the retry ended as {now.badges[-1]}")
    if now.run_key not in now.ledger:
        wrong.append("C2: no entry in the ledger after success")
    if staging:
        wrong.append(f"C7: {len(staging)} staged pieces left: {staging[:3]}")
    if cancelled and "Completed" in now.badges[:-1]:
        wrong.append("C9: an accepted cancel ended as Completed")
    return wrong


def cancelled_xor_completed(now: After, *, accepted: bool) -> list[str]:
    """C9: an accepted cancel leaves the destination as it was."""
    if not accepted:
        return []
    wrong = []
    if now.badges[-1] == "Completed":
        wrong.append("C9: an accepted cancel ended as Completed")
    if now.badges[-1] == "Cancelled" and now.run_key in now.ledger:
        wrong.append("C9: a Cancelled run has committed")
    return wrong


def _difference(content: Content, old: Content, new: Content) -> str:
    double = [row for row, times in content.items() if times > max(new[row], old[row])]
    return (
        f"{sum(content.values())} rows; old has {sum(old.values())}, new {sum(new.values())};"
        f" {len(double)} of them too often (C6)"
    )
