"""Pages put by on disk: a position needs all records to be known before the first is delivered."""

import tempfile
from collections.abc import Iterable, Iterator

from aiia_pipelines.connectors._rest_json import compact, read
from aiia_pipelines.connectors._rest_pages import Page


class Spool:
    """A temporary file of pages; it has no name and goes with its process."""

    def __init__(self, pages: Iterable[Page]) -> None:
        """Write all pages down, closing the file if that fails."""
        self._file = tempfile.TemporaryFile(prefix="aiia-rest-")  # noqa: SIM115 - closed by `close`
        try:
            for page in pages:
                line = compact({"number": page.number, "size": page.size, "records": page.records})
                self._file.write(line.encode("utf-8", "surrogatepass") + b"\n")
        except BaseException:
            self._file.close()
            raise

    def pages(self) -> Iterator[Page]:
        """Read the pages as they were written."""
        self._file.seek(0)
        for line in self._file:
            found = read(line)
            yield Page(
                number=found["number"], size=found["size"], records=found["records"], after=None
            )

    def close(self) -> None:
        """Give the room back; may be called twice."""
        self._file.close()
