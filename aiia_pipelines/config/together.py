"""What the parts of a connector file must agree on: each may be right alone and wrong with the others."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from aiia_pipelines.config.types import ColumnType

if TYPE_CHECKING:
    from aiia_pipelines.config.connector import Connector, Loc, Mistake, Stream

PLACES = ("table", "query", "path", "endpoint")
_MOMENTS = ("date", "timestamp", "timestamptz")
_UNORDERED = ("bool", "binary", "interval", "json", "list", "uuid")


def stream_mistakes(stream: "Stream") -> "Iterator[Mistake]":
    """List what does not go together within one stream."""
    given = [place for place in PLACES if getattr(stream, place) is not None]
    if len(given) != 1:
        found = f"found {' and '.join(given)}" if given else "found none"
        yield (), f"needs exactly one of {', '.join(PLACES)}; {found}"
    yield from _mode(stream)
    yield from _cursor(stream)
    yield from _partition(stream)
    yield from _names(stream)
    yield from _lossy(stream)


def name_mistakes(streams: "Iterable[Stream]") -> "Iterator[Mistake]":
    """List the streams that bear the name of one before."""
    seen: set[str] = set()
    for index, stream in enumerate(streams):
        if stream.name in seen:
            yield (index, "name"), f"another stream is named '{stream.name}'"
        seen.add(stream.name)


def connector_mistakes(connector: "Connector") -> "Iterator[Mistake]":
    """List what does not go together between the streams and settings of a connector."""
    yield from _after(connector)
    if connector.max_invalid is not None and connector.on_invalid != "quarantine":
        yield ("max_invalid",), "needs on_invalid: quarantine; fail allows no invalid row"
    if connector.retry.policy == "fire_and_forget" and connector.window is not None:
        yield (
            ("retry", "policy"),
            "fire_and_forget starts at once; a connector with a window takes standard",
        )
    names = {stream.name for stream in connector.streams}
    for index, stream in enumerate(connector.streams):
        of = stream.name.removesuffix("__quarantine")
        if connector.on_invalid == "quarantine" and of != stream.name and of in names:
            yield ("streams", index, "name"), f"is where the invalid rows of '{of}' go"


def _after(connector: "Connector") -> "Iterator[Mistake]":
    for index, name in enumerate(connector.triggers.after):
        if name == connector.name:
            yield ("triggers", "after", index), "a connector cannot come after itself"
        elif name in connector.triggers.after[:index]:
            yield ("triggers", "after", index), f"names '{name}' twice"


def _mode(stream: "Stream") -> "Iterator[Mistake]":
    mode = stream.mode
    if mode in {"upsert", "history"} and not stream.key:
        yield ("mode",), f"{mode} needs key, the columns that tell rows apart"
    if stream.delete != "none" and mode in {"replace", "append"}:
        reason = "replace removes" if mode == "replace" else "append never removes"
        yield ("delete",), f"{reason} rows by itself; only upsert and history take it"
    if stream.delete == "hard" and mode == "history":
        yield ("delete",), "history keeps every version; take soft, which ends it"
    if stream.max_delete is not None and mode == "append":
        yield ("max_delete",), "append never removes rows"
    elif stream.max_delete is not None and mode != "replace" and stream.delete == "none":
        yield ("max_delete",), f"needs delete; without it {mode} never removes rows"


def _cursor(stream: "Stream") -> "Iterator[Mistake]":
    kind = _type(stream, stream.cursor)
    if stream.cursor and stream.mode == "replace":
        yield ("cursor",), "replace reads all rows; take append, upsert or history"
    if kind and kind.name in _UNORDERED:
        yield ("cursor",), f"must be a column that grows; one of type {kind} does not"
    if stream.lookback is None:
        return
    if not stream.cursor:
        yield ("lookback",), "needs cursor, the column it looks back on"
    if not stream.key:
        yield ("lookback",), "needs key, on which rows that are read again are matched"
    if kind and kind.name in _MOMENTS and stream.lookback.steps:
        yield ("lookback",), f"must be a time such as 10m, because the cursor's type is {kind}"
    if kind and kind.name not in {*_MOMENTS, *_UNORDERED} and stream.lookback.seconds:
        yield (
            ("lookback",),
            f"must be a whole number of steps, because the cursor's type is {kind}",
        )


def _partition(stream: "Stream") -> "Iterator[Mistake]":
    cut = stream.partition
    kind = _type(stream, cut.column) if cut else None
    if cut is None or kind is None:
        return
    if kind.name in _UNORDERED:
        yield ("partition", "column"), f"must have an order; type {kind} has none"
    elif cut.by and kind.name not in _MOMENTS:
        yield ("partition", "by"), f"needs a date or a time, but the column's type is {kind}"
    elif cut.by == "hour" and kind.name == "date":
        yield ("partition", "by"), "hour needs a time; the column's type is date"


def _names(stream: "Stream") -> "Iterator[Mistake]":
    origins = [column.from_ or name for name, column in stream.columns.items()]
    yield from ((("columns",), f"take '{twice}' twice") for twice in _repeated(origins))
    lists: list[tuple[Loc, list[str]]] = [
        (("key",), stream.key),
        (("checks", "unique"), stream.checks.unique),
    ]
    for loc, names in lists:
        yield from ((loc, f"names '{twice}' twice") for twice in _repeated(names))
    # A column goes by its name at the destination everywhere in the file, except in `from`.
    renamed = {
        column.from_: name
        for name, column in stream.columns.items()
        if column.from_ and column.from_ not in stream.columns
    }
    cut = stream.partition
    lists.append((("cursor",), [stream.cursor] if stream.cursor else []))
    lists.append((("partition", "column"), [cut.column] if cut else []))
    for loc, names in lists:
        for name in names:
            if name in renamed:
                yield loc, f"'{name}' is named '{renamed[name]}' here; take that name"
    for name in stream.added_columns:
        if name in stream.columns:
            yield ("columns", name), "is a column that the destination adds; take another name"


def _lossy(stream: "Stream") -> "Iterator[Mistake]":
    for name, column in stream.columns.items():
        needed = column.nullable is False or name in stream.key
        if column.on_lossy == "null" and needed:
            yield ("columns", name, "on_lossy"), "null needs a column that may be NULL"


def _type(stream: "Stream", name: str | None) -> ColumnType | None:
    column = stream.columns.get(name or "")
    return column.type if column else None


def _repeated(names: Iterable[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]
