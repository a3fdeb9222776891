"""The folder of connector files, read as a whole."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from aiia_pipelines.config.connector import Connector, Mistake
from aiia_pipelines.config.document import MAX_BYTES, Document, read_document
from aiia_pipelines.config.faults import ConfigInvalid, Problem, UnknownConnector
from aiia_pipelines.config.secrets import is_secret_key
from aiia_pipelines.config.triggers import link_mistakes
from aiia_pipelines.config.wording import mistakes_of, place

_NAME_LINE = re.compile(
    rb"^name:[ \t]*[\"']?([a-z][a-z0-9_]{0,39})[\"']?[ \t]*(?:#.*)?\r?$", re.MULTILINE
)
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Broken:
    """A connector file that cannot be used."""

    name: str
    file: Path
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class Folder:
    """All connector files: the usable ones by name, and the broken ones."""

    connectors: dict[str, Connector] = field(default_factory=dict)
    broken: tuple[Broken, ...] = ()
    files: dict[str, Path] = field(default_factory=dict)
    # Mistakes between files: each connector can be used, but is not started after another.
    unlinked: tuple[Problem, ...] = ()

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Return all mistakes of all files."""
        alone = (problem for broken in self.broken for problem in broken.problems)
        return (*alone, *self.unlinked)

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of all connectors, usable or broken."""
        return tuple(sorted({*self.connectors, *(broken.name for broken in self.broken)}))


@dataclass(frozen=True, slots=True)
class _Text:
    """What stands in one file, or why that cannot be told."""

    file: Path
    data: bytes
    fault: str = ""


def read_folder(folder: Path) -> Folder:
    """Read every connector file; a folder that is not there holds none."""
    found = _assemble(_texts(folder))
    return replace(found, unlinked=tuple(_unlinked(found)))


def connectors_with(folder: Path, word: bytes) -> dict[str, Connector]:
    """Read the usable connectors in whose files a word stands; the others are not parsed."""
    return _assemble(text for text in _texts(folder) if word in text.data).connectors


def read_connector(folder: Path, name: str) -> Connector:
    """Read the connector of this name.

    Raises:
        UnknownConnector: no file bears the name.
        ConfigInvalid: its file cannot be used.
    """
    texts = list(_texts(folder))
    # Only a file that spells the name can hold it; the rest need not be parsed.
    wanted = name.encode(errors="replace")
    likely = [text for text in texts if wanted in text.data or text.file.stem == name]
    found = _assemble(likely)
    if name not in found.names:
        found = _assemble(texts)
    if name in found.connectors:
        return found.connectors[name]
    problems = tuple(
        problem for broken in found.broken if broken.name == name for problem in broken.problems
    )
    if problems:
        raise ConfigInvalid.of(problems)
    raise UnknownConnector(name, found.names)


def _texts(folder: Path) -> Iterable[_Text]:
    """Read the files of a folder, in the order of their names."""
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    for file in files:
        if file.suffix in {".yaml", ".yml"} and not file.name.startswith("."):
            yield _text(file)


def _text(file: Path) -> _Text:
    """Read one file, never more than is allowed."""
    try:
        with file.open("rb") as opened:
            return _Text(file, opened.read(MAX_BYTES + 1))
    except OSError as fault:
        return _Text(file, b"", f"cannot be read: {fault.strerror or 'unknown reason'}")


def _assemble(texts: Iterable[_Text]) -> Folder:
    """Make connectors of files; a name belongs to the first file that bears it."""
    connectors: dict[str, Connector] = {}
    broken: list[Broken] = []
    files: dict[str, Path] = {}
    for text in texts:
        document = read_document(text.data) if not text.fault else Document()
        connector, problems = _connector(text, document)
        name = connector.name if connector else _name(text, document)
        if name in files:
            first = Path(*files[name].parts[-2:]).as_posix()
            sentence = f"name: another file, {first}, already bears the name '{name}'"
            problems = (Problem(text.file, document.line(("name",)), sentence), *problems)
        if connector and not problems:
            connectors[name] = connector
        else:
            broken.append(Broken(name, text.file, problems))
        files.setdefault(name, text.file)
    return Folder(dict(sorted(connectors.items())), tuple(broken), files)


def _connector(text: _Text, document: Document) -> tuple[Connector | None, tuple[Problem, ...]]:
    """Make a connector of one file, or say everything that is wrong with it."""
    if text.fault:
        return None, (Problem(text.file, None, text.fault),)
    found = list(document.mistakes)
    connector = None
    if isinstance(document.value, dict):
        connector, mistakes = _validated(document.value)
        found += [(document.line(loc), f"{place(loc)}: {said}") for loc, said in mistakes]
    elif not found:
        found.append((1, "must be a mapping that starts with name, title, source and streams"))
    found.sort(key=lambda mistake: mistake[0] or 0)
    return connector, tuple(Problem(text.file, line, said) for line, said in found)


def _validated(value: dict[str, Any]) -> tuple[Connector | None, list[Mistake]]:
    """Check a connector's parts, its source by the rules of its kind."""
    connector = None
    mistakes: list[Mistake] = []
    try:
        connector = Connector.model_validate(value)
    except ValidationError as fault:
        mistakes = list(mistakes_of(fault))
    source = value.get("source")
    kind = source.get("kind") if isinstance(source, dict) else None
    if isinstance(source, dict) and isinstance(kind, str) and kind.strip():
        # Kinds import this room's models, so they are only known when a file is read.
        from aiia_pipelines.connectors.base import (  # noqa: PLC0415
            lists_files,
            source_problems,
            stream_problems,
        )

        known = {loc for loc, _ in mistakes}
        secrets = sorted(_secrets(source), key=len, reverse=True)
        for loc, said in source_problems(kind, source):
            if ("source", *loc) not in known:
                mistakes.append((("source", *loc), _masked(said, secrets)))
        for index, stream in enumerate(connector.streams if connector else ()):
            for loc, said in stream_problems(kind, stream.options):
                mistakes.append((("streams", index, "options", *loc), said))
        if connector and connector.triggers.files and not lists_files(kind):
            said = f"sources of kind {kind} have no files; the kinds files and s3 have"
            mistakes.append((("triggers", "files"), said))
    return connector, mistakes


def _unlinked(folder: Folder) -> Iterable[Problem]:
    """Tell who is to come after a connector that is not there, or after itself by way of others."""
    links = {name: one.triggers.after for name, one in folder.connectors.items()}
    for name, mistakes in link_mistakes(links, folder.names).items():
        file = folder.files[name]
        document = read_document(_text(file).data)
        for index, sentence in mistakes:
            loc = ("triggers", "after", index)
            yield Problem(file, document.line(loc), f"{place(loc)}: {sentence}")


def _name(text: _Text, document: Document) -> str:
    """Return the name a file gives, else that of the file."""
    given = document.value.get("name") if isinstance(document.value, dict) else None
    if isinstance(given, str) and _NAME.fullmatch(given):
        return given
    match = _NAME_LINE.search(text.data)
    return match[1].decode() if match and given is None else text.file.stem


def _secrets(value: object, *, secret: bool = False) -> set[str]:
    """Return the texts that stand under secret keys."""
    if isinstance(value, dict):
        pairs = [(item, secret or is_secret_key(str(key))) for key, item in value.items()]
    elif isinstance(value, list):
        pairs = [(item, secret) for item in value]
    else:
        return {str(value)} if secret and value is not None else set()
    return {found for item, hidden in pairs for found in _secrets(item, secret=hidden)}


def _masked(sentence: str, secrets: list[str]) -> str:
    """Take secrets out of a sentence that a kind has written."""
    for secret in filter(None, secrets):
        sentence = sentence.replace(secret, "***")
    return sentence
