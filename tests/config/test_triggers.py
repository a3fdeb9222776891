from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from aiia_pipelines.config.connector import Connector
from aiia_pipelines.config.folder import connectors_with, read_connector, read_folder
from aiia_pipelines.config.triggers import link_mistakes
from aiia_pipelines.config.wording import mistakes_of, place

Place = Callable[[str, str | bytes], Path]
FILE = """\
name: {name}
title: {name}
source: {{ kind: {kind} }}
streams: [{{ name: rows, path: "*.csv" }}]
triggers:
{triggers}
"""
FILES = "files, root: /data/in"


def tree(**triggers: Any) -> dict[str, Any]:
    return {
        "name": "crm",
        "title": "CRM",
        "source": {"kind": "sql"},
        "streams": [{"name": "orders", "table": "orders"}],
        "triggers": triggers,
    }


def said(**triggers: Any) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        Connector.model_validate(tree(**triggers))
    return [f"{place(loc)}: {sentence}" for loc, sentence in mistakes_of(caught.value)]


def written(name: str, triggers: str, kind: str = "sql, url: 'mysql://u@db.example.com/x'") -> str:
    return FILE.format(name=name, triggers=triggers, kind=kind)


def test_a_connector_without_triggers_has_none() -> None:
    given_tree = tree()
    del given_tree["triggers"]
    found = Connector.model_validate(given_tree).triggers
    assert (found.webhook, found.files, found.after) == (None, None, [])


def test_triggers_are_read_and_written_as_they_stand() -> None:
    triggers = {
        "webhook": {"secret": "${env:CRM_HOOK}"},
        "files": {"every": "1m"},
        "after": ["erp", "shop"],
    }
    connector = Connector.model_validate(tree(**triggers))
    assert connector.public()["triggers"] == triggers
    files = connector.triggers.files
    assert files is not None
    assert (files.every_seconds, files.settle_seconds) == (60, 10)


def test_files_without_more_words_are_looked_at_as_by_default() -> None:
    files = Connector.model_validate(tree(files=None)).triggers.files
    assert files is not None
    assert (files.every_seconds, files.settle_seconds) == (30, 10)


@pytest.mark.parametrize(
    "secret", ["hunter2-hunter2-hunter2", "x${env:A}", "${env:A:-hunter2}", "${vault:a}", ""]
)
def test_a_secret_in_the_file_is_refused_and_not_told(secret: str) -> None:
    (line,) = said(webhook={"secret": secret})
    assert line == (
        "triggers.webhook.secret: a secret must not stand in the file;"
        " write a reference: ${env:NAME} or ${file:/path/to/secret}"
    )


@pytest.mark.parametrize(
    ("triggers", "sentence"),
    [
        ({"webhook": None}, "triggers.webhook.secret: missing key"),
        ({"hook": {}}, "triggers.hook: unknown key; did you mean 'webhook'?"),
        ({"files": {"evry": "1m"}}, "triggers.files.evry: unknown key; did you mean 'every'?"),
        ({"files": {"every": "soon"}}, "triggers.files.every: must be a time such as 30s"),
        ({"files": {"settle": "0s"}}, "triggers.files.settle: must be at least 1s"),
        ({"files": {"settle": "2d"}}, "triggers.files.settle: must be at least 1s and at most 1d"),
        ({"files": {"every": 30}}, "triggers.files.every: must be a text"),
        ({"after": ["crm"]}, "triggers.after[0]: a connector cannot come after itself"),
        ({"after": ["erp", "erp"]}, "triggers.after[1]: names 'erp' twice"),
        ({"after": ["ERP"]}, "triggers.after[0]: must start with a small letter"),
        ({"after": "erp"}, "triggers.after: must be a list"),
    ],
)
def test_mistakes_are_told_with_their_place(triggers: dict[str, Any], sentence: str) -> None:
    (line,) = said(**triggers)
    assert line.startswith(sentence)


def test_files_are_for_kinds_whose_sources_are_files(place_file: Place) -> None:
    folder = place_file("a.yaml", written("shop", "  files: {}"))
    place_file("b.yaml", written("scans", "  files: {}", FILES))
    place_file("c.yaml", written("odd", "  files: {}", "nothing_like_it"))
    read = read_folder(folder)
    assert list(read.connectors) == ["scans"]
    told = list(map(str, read.problems))
    assert told[0] == (
        "connectors/a.yaml:6: triggers.files: sources of kind sql have no files;"
        " the kinds files and s3 have"
    )
    assert any("unknown kind 'nothing_like_it'" in line for line in told[1:])


def test_a_link_that_leads_nowhere_is_told_and_takes_nobody_down(place_file: Place) -> None:
    folder = place_file("a.yaml", written("erp", "  after:\n    - shop\n    - shopp", FILES))
    place_file("b.yaml", written("shop", "  after: []", FILES))
    read = read_folder(folder)
    assert list(read.connectors) == ["erp", "shop"]
    assert read.broken == ()
    assert list(map(str, read.problems)) == [
        "connectors/a.yaml:8: triggers.after[1]: no connector is named 'shopp'; did you mean 'shop'?"
    ]
    assert read_connector(folder, "erp").triggers.after == ["shop", "shopp"]


def test_a_broken_connector_is_no_unknown_one(place_file: Place) -> None:
    folder = place_file("a.yaml", written("erp", "  after: [shop]", FILES))
    place_file("b.yaml", written("shop", "  aftr: []", FILES))
    assert [problem.file.name for problem in read_folder(folder).problems] == ["b.yaml"]


def test_only_files_with_a_word_in_them_are_parsed(place_file: Place) -> None:
    folder = place_file("a.yaml", written("erp", "  webhook: { secret: '${env:X}' }", FILES))
    place_file("b.yaml", written("shop", "  after: []", FILES))
    assert list(connectors_with(folder, b"webhook")) == ["erp"]


def test_a_circle_is_told_at_each_of_its_connectors_with_its_way() -> None:
    links = {"a": ["c"], "b": ["a"], "c": ["b"], "d": ["a"], "e": []}
    found = link_mistakes(links, list(links))
    assert sorted(found) == ["a", "b", "c"]
    assert found["a"][0][1].startswith("goes in a circle, a → b → c → a; take one of them out")


@given(
    st.dictionaries(
        st.integers(0, 6), st.lists(st.integers(0, 6), unique=True, max_size=4), min_size=1
    )
)
def test_what_is_left_without_mistakes_always_ends(numbers: dict[int, list[int]]) -> None:
    links = {str(name): [str(n) for n in before] for name, before in numbers.items()}
    wrong = link_mistakes(links, list(links))
    sound = {name: before for name, before in links.items() if name not in wrong}
    for start, before in sound.items():
        seen, todo = set(), list(before)
        while todo:
            name = todo.pop()
            assert name != start, "a circle was not noticed"
            assert name in links, "an unknown name was not noticed"
            if name not in seen:
                seen.add(name)
                todo += sound.get(name, [])
