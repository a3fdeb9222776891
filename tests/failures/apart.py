"""A sync in a process of its own: `python apart.py JSON`."""

import json
import os
import sys

from provoked import Stage

from aiia_pipelines.jobs.store import JobStore


class _Place:
    def __init__(self, url: str) -> None:
        self._url = url

    def url(self) -> str:
        return self._url


def main(told: dict) -> None:  # type: ignore[type-arg]
    store = JobStore.open(told["store"])
    # The parent took the job run; it is this process that works on it.
    with store.engine.begin() as db:
        query = "update aiia.attempts set pid = {} where number = {}"
        db.exec_driver_sql(query.format(os.getpid(), told["number"]))
    stage = Stage(store, None, _Place(told["destination"]), None)  # type: ignore[arg-type]
    stage.sync(told["source"], told["stream"], number=told["number"])


main(json.loads(sys.argv[1]))
