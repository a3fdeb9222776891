import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from aiia_pipelines.config.document import read_document
from aiia_pipelines.config.faults import ConfigInvalid, UnknownConnector
from aiia_pipelines.config.folder import Folder, read_connector, read_folder

Place = Callable[[str, str | bytes], Path]


def lines(folder: Folder) -> list[str]:
    return [str(problem) for problem in folder.problems]


def test_a_good_file_becomes_a_connector(place_file: Place, sample: str) -> None:
    folder = place_file("sap.yaml", sample)
    place_file("readme.md", "no connector")
    place_file(".hidden.yaml", "[")
    read = read_folder(folder)
    assert list(read.connectors) == ["sap_erp"]
    assert read.broken == ()
    assert read.files == {"sap_erp": folder / "sap.yaml"}


def test_a_folder_that_is_not_there_holds_none(tmp_path: Path) -> None:
    assert read_folder(tmp_path / "nope") == Folder()
    with pytest.raises(UnknownConnector, match="Known: none"):
        read_connector(tmp_path / "nope", "crm")


def test_all_mistakes_of_all_files_are_told_with_their_lines(
    place_file: Place, sample: str
) -> None:
    folder = place_file("a.yaml", sample.replace("tier: critical", "tier: urgent"))
    place_file("b.yaml", sample.replace("sap_erp", "b", 1).replace("mode:", "mood:"))
    place_file("c.yaml", "name: crm\ntitle: [")
    read = place_file("d.yaml", sample.replace("sap_erp", "d", 1)) and read_folder(folder)
    assert list(read.connectors) == ["d"]
    assert [broken.name for broken in read.broken] == ["sap_erp", "b", "crm"]
    assert read.names == ("b", "crm", "d", "sap_erp")
    assert lines(read)[0] == "connectors/a.yaml:3: tier: must be one of normal, critical"
    assert lines(read)[1].startswith(
        "connectors/b.yaml:14: streams[0].mood: unknown key; did you mean 'mode'? Allowed: name,"
    )
    assert lines(read)[2].startswith("connectors/c.yaml:3: is not valid YAML")


def test_mistakes_of_the_text_and_of_its_values_are_told_together(
    place_file: Place, sample: str
) -> None:
    folder = place_file("a.yaml", sample.replace("tier: critical", "title: x\ntier: urgent"))
    told = lines(read_folder(folder))
    assert told[0].startswith("connectors/a.yaml:3: the key 'title' stands twice")
    assert told[1].startswith("connectors/a.yaml:4: tier")


def test_the_second_file_of_a_name_is_the_mistake(place_file: Place, sample: str) -> None:
    folder = place_file("a.yaml", sample)
    place_file("b.yaml", "# copy\n" + sample)
    read = read_folder(folder)
    assert list(read.connectors) == ["sap_erp"]
    sentence = "name: another file, connectors/a.yaml, already bears the name 'sap_erp'"
    assert lines(read) == [f"connectors/b.yaml:2: {sentence}"]
    assert read_connector(folder, "sap_erp").name == "sap_erp"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("name: crm\nstreams: [", "crm"),
        ("name: 'crm'\nstreams: [", "crm"),
        ("title: [", "stem"),
        ("name: Crm", "stem"),
        ("[1]", "stem"),
        ("", "stem"),
    ],
)
def test_a_broken_file_is_named_as_well_as_it_can_be(
    place_file: Place, text: str, name: str
) -> None:
    (broken,) = read_folder(place_file("stem.yml", text)).broken
    assert broken.name == name
    assert broken.problems


def test_a_list_is_no_connector(place_file: Place) -> None:
    assert lines(read_folder(place_file("x.yaml", "- 1"))) == [
        "connectors/x.yaml:1: must be a mapping that starts with name, title, source and streams"
    ]


def test_a_file_that_cannot_be_read_takes_no_other_down(place_file: Place, sample: str) -> None:
    folder = place_file("a.yaml", sample)
    (folder / "b.yaml").mkdir()
    (folder / "c.yaml").symlink_to("nowhere")
    read = read_folder(folder)
    assert list(read.connectors) == ["sap_erp"]
    assert lines(read) == [
        "connectors/b.yaml: cannot be read: Is a directory",
        "connectors/c.yaml: cannot be read: No such file or directory",
    ]


def test_the_kind_of_the_source_is_asked(place_file: Place, sample: str) -> None:
    text = sample.replace("kind: sql", "kind: sqll").replace("sap_erp", "a", 1)
    folder = place_file("a.yaml", text)
    place_file("b.yaml", sample.replace("  password:", "  pasword: x\n  password:"))
    told = lines(read_folder(folder))
    assert told[0].startswith("connectors/a.yaml:5: source.kind: ")
    assert told[1].startswith("connectors/b.yaml:7: source.pasword: ")


def test_a_secret_is_never_shown_whatever_else_is_wrong(place_file: Place, sample: str) -> None:
    reference = "${env:SAP_PASSWORD}"
    folder = place_file("a.yaml", sample.replace(reference, "[hunter22, {a: 31415926}]"))
    other = sample.replace("kind: sql", "kind: hunter22").replace(reference, "hunter22")
    place_file("b.yaml", other)
    place_file("c.yaml", sample.replace(reference, "31415926").replace("sap_erp", "c", 1))
    told = "\n".join(lines(read_folder(folder)))
    assert "a.yaml:7: source.password[0]: a secret must not stand in the file" in told
    assert "hunter22" not in told
    assert "31415926" not in told
    assert told.count("c.yaml:7: source.password: ") == 1


def test_the_kind_is_asked_about_the_options_of_each_stream(place_file: Place, sample: str) -> None:
    text = sample.replace("    mode: upsert", "    options:\n      delimeter: x\n    mode: upsert")
    told = lines(read_folder(place_file("a.yaml", text)))
    assert len(told) == 1
    assert told[0].startswith("connectors/a.yaml:15: streams[0].options.delimeter: ")


def test_mistakes_within_new_parts_are_told_with_their_lines(
    place_file: Place, sample: str
) -> None:
    parts = "    partition:\n      column: doc_no\n      rangs: 4\n    cursor: changed\n    delete: all\n"
    text = sample.replace("    mode: upsert\n", f"{parts}    mode: upsert\n")
    told = lines(read_folder(place_file("a.yaml", text)))
    assert [line.partition(": ")[0] for line in told] == [
        "connectors/a.yaml:16",
        "connectors/a.yaml:18",
    ]
    assert "streams[0].partition.rangs: unknown key; did you mean 'ranges'?" in told[0]


def test_one_connector_is_read_by_its_name(place_file: Place, sample: str) -> None:
    folder = place_file("a.yaml", sample)
    place_file("b.yaml", "name: b\ntitle: 5\ntier: x")
    place_file("c.yaml", sample.replace("name: sap_erp", 'name: "\\x63rm"'))
    assert read_connector(folder, "sap_erp").title == "SAP ERP DB"
    assert read_connector(folder, "crm").name == "crm"
    with pytest.raises(ConfigInvalid, match=r"connectors/b.yaml:\d+: .* more mistakes\)") as caught:
        read_connector(folder, "b")
    assert len(caught.value.problems) == 4
    with pytest.raises(UnknownConnector, match="did you mean 'sap_erp'"):
        read_connector(folder, "sap_epr")
    with pytest.raises(UnknownConnector):
        read_connector(folder, "\ud800")


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=300)
    | st.text(alphabet="name:titlesourckd -[]{}&*!|>#'\"\n,?%$", max_size=120).map(str.encode)
)
def test_garbage_is_a_broken_connector_and_nothing_worse(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as place:
        Path(place, "x.yaml").write_bytes(data)
        read = read_folder(Path(place))
    assert not read.connectors
    assert len(read.broken) == 1
    assert read.problems
    assert all("\n" not in str(problem) for problem in read.problems)


trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
KEYS = ["name", "title", "source", "schedule", "streams", "owners", "timezone", "tier"]


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS), trees), st.lists(trees, max_size=2))
def test_any_values_under_known_keys_are_told(tree: dict[str, Any], streams: list[Any]) -> None:
    tree = {"streams": streams, **tree}
    with tempfile.TemporaryDirectory() as place:
        Path(place, "x.yaml").write_text(yaml.safe_dump(tree))
        read = read_folder(Path(place))
    assert len(read.broken) + len(read.connectors) == 1
    assert bool(read.broken) == bool(read.problems)


PLACES: list[list[str | int]] = [
    [],
    ["source"],
    ["streams", 0],
    ["streams", 0, "checks"],
    ["streams", 0, "checks", "row_count"],
    ["streams", 0, "columns", "amount"],
    ["streams", 0, "columns", "amount", "checks"],
    ["streams", 0, "columns", "booked_on", "checks", "in_range"],
]


@settings(max_examples=150, deadline=None)
@given(
    at=st.sampled_from(PLACES),
    key=st.from_regex(r"[a-z_]{1,10}", fullmatch=True).map(lambda text: f"q_{text}"),
    position=st.integers(0, 20),
    value=st.text(max_size=5) | st.integers() | st.none(),
)
def test_an_unknown_key_anywhere_is_told_with_its_line(
    sample: str, at: list[str | int], key: str, position: int, value: object
) -> None:
    tree = read_document(sample.encode()).value
    inner = tree
    for part in at:
        inner = inner[part]
    items = list(inner.items())
    items.insert(position, (key, value))
    inner.clear()
    inner.update(items)
    text = yaml.safe_dump(tree, sort_keys=False)
    line = next(number for number, row in enumerate(text.split("\n"), 1) if f"{key}:" in row)
    with tempfile.TemporaryDirectory() as place:
        Path(place, "x.yaml").write_text(text)
        (broken,) = read_folder(Path(place)).broken
    told = [problem for problem in broken.problems if f"{key}: unknown key" in problem.message]
    assert [problem.line for problem in told] == [line]
