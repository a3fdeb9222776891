"""From one page of an endpoint to the next, until there are no more, and never in circles."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urldefrag, urljoin

from aiia_pipelines.connectors import _rest_json as exact
from aiia_pipelines.connectors._rest_api import Api, Wanted
from aiia_pipelines.connectors._rest_faults import too_much, unusable
from aiia_pipelines.connectors._rest_json import Json
from aiia_pipelines.connectors._rest_message import Answer
from aiia_pipelines.connectors._rest_options import Options, Pages
from aiia_pipelines.connectors._web_address import Origin
from aiia_pipelines.connectors.base import SourceFault

_LINK = re.compile(r"<([^<>]*)>([^<]*)")
_REL = re.compile(r";\s*rel\s*=\s*(?:\"([^\"]*)\"|([^\s;,\"]+))", re.IGNORECASE)
_COUNTED = {"page": 1, "offset": 0}
State = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The records of one answer; `after` is where to go on, None at the end."""

    number: int
    records: Sequence[Mapping[str, Any]]
    size: int  # bytes
    after: State | None


class Walk:
    """A way through the pages of one endpoint."""

    def __init__(self, api: Api, source: Options, wanted: Wanted) -> None:
        """Keep what every page is asked with."""
        self._api, self._source, self._wanted = api, source, wanted
        self._rules: Pages = wanted.options.pagination
        self._place = Origin.of(wanted.url).place
        self._seen: set[str] = set()
        self._last: Sequence[Any] = ()

    def pages(self, state: State | None = None) -> Iterator[Page]:
        """Read page after page, from the beginning or from where an earlier walk stood.

        Raises:
            SourceFault: A page cannot be had, or the pages do not follow each other.
        """
        at: State | None = state or {"pages": 0, "read": 0, "total": None, "next": self._first()}
        while at is not None:
            if at["pages"] >= self._source.max_pages:
                raise too_much(
                    f"Too many pages. {self._wanted.url} has more than max_pages"
                    f" ({self._source.max_pages:,}).",
                    self._place,
                )
            page = self._page(at)
            yield page
            at = page.after

    def _first(self) -> int | None:
        start = self._rules.start
        return _COUNTED.get(self._rules.type) if start is None else start

    def _page(self, at: State) -> Page:
        document, answer = self._api.get(self._request(at["next"]))
        number = at["pages"] + 1
        records = self._records(document, number)
        read = at["read"] + len(records)
        total = self._total(document, at["total"])
        following = self._following(at, document, answer, records)
        if following is not None and self._rules.type in _COUNTED and total is not None:
            following = following if read < total else None
        if following is None:
            self._check_end(read, total)
            after = None
        else:
            after = {"pages": number, "read": read, "total": total, "next": following}
        self._last = records
        return Page(number=number, records=records, size=len(answer.body), after=after)

    def _request(self, following: str | int | None) -> Wanted:
        wanted, rules = self._wanted, self._rules
        if rules.type == "link" and following is not None:
            # The link has the parameters of the first page already.
            return replace(wanted, url=str(following), params={})
        sent: dict[str, Any] = {rules.size_param: rules.size} if rules.size_param else {}
        if following is not None and rules.type != "none":
            name = rules.param or rules.type
            if rules.send == "header":
                wanted = replace(wanted, headers={**wanted.headers, name: str(following)})
            else:
                sent[name] = following
        if rules.send == "body":
            return replace(wanted, body={**wanted.body, **sent})
        return replace(wanted, params={**wanted.params, **sent})

    def _records(self, document: Json, number: int) -> Sequence[Mapping[str, Any]]:
        path = self._wanted.options.records
        found = exact.at(document, path)
        if found is None and path is not None:
            return ()
        if exact.is_missing(found) or not isinstance(found, list):
            has = (
                f"; it has the keys {', '.join(document)[:100]}"
                if isinstance(document, dict)
                else ""
            )
            where = (
                f"no list at records: {path}" if path else "no list; say under records where it is"
            )
            raise SourceFault(
                f"Malformed data. Page {number:,} of {self._wanted.url} is {where}{has}.",
                "data:malformed",
                place=self._place,
            )
        for place, record in enumerate(found, start=1):
            if not isinstance(record, dict):
                raise SourceFault(
                    f"Malformed data. Record {place:,} of page {number:,} of {self._wanted.url} is no object.",
                    "data:malformed",
                    place=self._place,
                )
        return found

    def _total(self, document: Json, before: int | None) -> int | None:
        if self._rules.total is None:
            return None
        total = exact.at(document, self._rules.total)
        if isinstance(total, bool) or not isinstance(total, int):
            raise self._unclear(f"there is no number of records at total: {self._rules.total}")
        if before is not None and total < before:
            raise SourceFault(
                f"{self._wanted.url} had {before:,} records and now has {total:,}: pages moved while they"
                " were read, and records may have been passed over.",
                "reconcile:mismatch",
                place=self._place,
            )
        return total

    def _check_end(self, read: int, total: int | None) -> None:
        expected = (total or 0) - (self._rules.start or 0 if self._rules.type == "offset" else 0)
        if total is not None and read < expected:
            raise SourceFault(
                f"{self._wanted.url} announced {total:,} records and sent {read:,}.",
                "reconcile:mismatch",
                place=self._place,
            )

    # -- what follows -----------------------------------------------------------------------

    def _following(
        self, at: State, document: Json, answer: Answer, records: Sequence[Any]
    ) -> str | int | None:
        """Tell what to ask for next; None when this was the last page."""
        rules = self._rules
        if rules.type == "none" or (rules.more and not self._says_more(document)):
            return None
        if rules.type in _COUNTED:
            return self._counted(at, document, records)
        found = self._told(document, answer, records)
        if found is None or found == "" or found is False:
            if rules.more:
                raise self._unclear("it says that more follows, and not how to ask for it")
            return None
        if isinstance(found, bool) or not isinstance(found, str | int):
            raise self._unclear("what stands for the next page is neither text nor number")
        if rules.type == "link":
            found = self._linked(str(found), answer)
        if str(found) in self._seen or found == at["next"]:
            raise self._unclear(f"page {at['pages'] + 1:,} leads to a page that was read before")
        self._seen.add(str(found))
        return found if isinstance(found, int) else str(found)

    def _says_more(self, document: Json) -> bool:
        found = exact.at(document, self._rules.more)
        if not isinstance(found, bool):
            raise self._unclear(f"there is neither true nor false at more: {self._rules.more}")
        return found

    def _counted(self, at: State, document: Json, records: Sequence[Any]) -> int | None:
        rules = self._rules
        if records and records == self._last:
            raise self._unclear(
                f"pages {at['pages']:,} and {at['pages'] + 1:,} are the same; does the API know the parameter"
                f" '{rules.param or rules.type}'?"
            )
        if rules.total_pages is not None:
            announced = at["pages"] + 1 < self._pages_announced(document)
        elif records:
            announced = True
        else:
            # An empty page ends the stream, unless the answer says that more follows.
            announced = rules.more is not None
        # A short page after none that was full may only show that the server sends fewer than asked for.
        full = at["pages"] > 0 and at["read"] == at["pages"] * (rules.size or 0)
        if not announced or (rules.stop == "short" and full and len(records) < (rules.size or 0)):
            return None
        if rules.type == "offset" and not records:
            raise self._unclear("it says that more follows, and sends nothing")
        return int(at["next"]) + (1 if rules.type == "page" else len(records))

    def _pages_announced(self, document: Json) -> int:
        pages = exact.at(document, self._rules.total_pages)
        if isinstance(pages, bool) or not isinstance(pages, int):
            raise self._unclear(f"there is no number at total_pages: {self._rules.total_pages}")
        return pages

    def _told(self, document: Json, answer: Answer, records: Sequence[Any]) -> Json:
        rules = self._rules
        if rules.next_header:
            return answer.headers.get(rules.next_header)
        if rules.last:
            return None if not records else self._found(exact.at(records[-1], rules.last))
        if rules.next:
            return self._found(exact.at(document, rules.next))
        return _next_link(", ".join(answer.headers.get_list("link")))

    @staticmethod
    def _found(value: Json) -> Json:
        return None if exact.is_missing(value) else value

    def _linked(self, link: str, answer: Answer) -> str:
        target = urldefrag(urljoin(answer.url, link)).url
        allowed = {
            Origin.of(url) for url in (self._wanted.url, self._source.url, *self._source.origins)
        }
        try:
            origin = Origin.of(target)
        except ValueError:
            raise self._unclear("the next page is no web address") from None
        if origin not in allowed:
            raise SourceFault(
                f"{self._wanted.url} leads on to {origin.scheme}://{origin.place}, another server; list it"
                " under origins if it may have the credentials.",
                "address:refused",
                "config:invalid",
                place=self._place,
            )
        return self._api.without_secrets(target)

    def _unclear(self, what: str) -> SourceFault:
        return unusable(
            f"Protocol error. The pages of {self._wanted.url} do not follow: {what}.", self._place
        )


def _next_link(header: str) -> str | None:
    for target, facts in _LINK.findall(header):
        rel = _REL.search(facts)
        if rel and "next" in (rel[1] or rel[2]).lower().split():
            return str(target)
    return None
