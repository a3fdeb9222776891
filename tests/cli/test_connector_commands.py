import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

from aiia_pipelines.jobs import contracts
from aiia_pipelines.jobs.contracts import LearnedColumn
from aiia_pipelines.jobs.store import JobStore
from aiia_pipelines.local.ports import free_port
from aiia_pipelines.local.postgres import EmbeddedPostgres

pytestmark = pytest.mark.integration


def test_the_list_holds_usable_and_broken_connectors(here: Any, aiia: Any) -> None:
    here.write()
    (here.connectors / "bad.yaml").write_text("name: bad\nkron: x\n", encoding="utf-8")
    found = json.loads(aiia("connectors", "list").stdout)
    assert [(row["name"], row["usable"]) for row in found] == [("bad", False), ("sample", True)]
    assert list(found[0]) == [
        "name", "title", "kind", "streams", "schedule", "timezone",
        "destination", "tier", "usable", "problems",
    ]  # fmt: skip
    assert "✓ ok" in aiia("connectors", "list", "-o", "table").stdout


def test_an_empty_folder_says_how_to_begin(here: Any, aiia: Any) -> None:
    done = aiia("connectors", "list")
    assert (done.stdout, done.exit_code) == ("[]\n", 0)
    assert "aiia connectors new sql" in done.stderr


def test_show_gives_references_in_place_of_secrets(here: Any, aiia: Any) -> None:
    here.write()
    told = json.loads(aiia("connectors", "show", "sample").stdout)
    assert told["source"]["password"] == "${file:secrets/sample_read}"
    assert "Sample DB" in aiia("connectors", "show", "sample", "-o", "table").stdout


def test_show_lists_the_columns_of_a_stream_for_people(here: Any, aiia: Any) -> None:
    path = here.write()
    columns = "    columns: {id: {type: int32, nullable: false, checks: {gt: 0}}, name: {}}\n"
    path.write_text(path.read_text(encoding="utf-8") + columns, encoding="utf-8")
    page = aiia("connectors", "show", "sample", "-o", "plain").stdout
    assert "int32" in page
    assert "not null  gt 0" in page
    assert "learned" in page


def test_show_tells_how_a_stream_is_kept(here: Any, aiia: Any) -> None:
    path = here.write()
    text = path.read_text(encoding="utf-8").replace(
        "streams:", "drift: evolve\non_invalid: quarantine\nmax_invalid: 0.5%\nstreams:"
    )
    text += "    mode: upsert\n    cursor: id\n    lookback: 5\n    delete: soft\n"
    path.write_text(text, encoding="utf-8")
    page = aiia("connectors", "show", "sample", "-o", "plain").stdout
    assert "evolve" in page
    assert "quarantine, at most 0.5%" in page
    assert "  cursor: id, looks back 5\n  rows that are gone: soft delete" in page


def test_an_unknown_connector_ends_with_3_and_the_nearest_name(here: Any, aiia: Any) -> None:
    here.write()
    done = aiia("connectors", "show", "sampel", "-o", "json")
    assert done.exit_code == 3
    assert "did you mean 'sample'" in json.loads(done.stderr)["message"]


def test_validate_tells_every_mistake_with_its_line(here: Any, aiia: Any) -> None:
    here.write()
    assert (
        aiia("connectors", "validate", "-o", "plain").stdout == "✓ 1 connector file can be used.\n"
    )
    (here.connectors / "bad.yaml").write_text(
        "name: bad\ntitle: Bad\nkron: x\ntier: huge\nsource: {kind: sql, url: 'sqlite://'}\n"
        "streams: [{name: a, table: a}]\n",
        encoding="utf-8",
    )
    done = aiia("connectors", "validate")
    assert done.exit_code == 5
    told = json.loads(done.stdout)
    assert [problem["line"] for problem in told["problems"]] == [3, 4]
    assert not told["valid"]
    lines = aiia("connectors", "validate", "-o", "plain").stdout.splitlines()
    assert lines[0].startswith("connectors/bad.yaml:3: ")


def test_validate_checks_one_file_alone(here: Any, aiia: Any) -> None:
    good = here.write()
    bad = here.connectors / "bad.yaml"
    bad.write_text("name: bad\n", encoding="utf-8")
    assert aiia("connectors", "validate", good).exit_code == 0
    assert aiia("connectors", "validate", bad).exit_code == 5
    assert aiia("connectors", "validate", here.connectors / "none.yaml").exit_code == 2


AIIA = [sys.executable, "-m", "aiia_pipelines"]


def run(here: Any, *args: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **here.environment()}
    return subprocess.run(
        [*AIIA, *args], env=environment, capture_output=True, text=True, check=False
    )


def test_preview_shows_the_first_rows(here: Any) -> None:
    here.write()
    found = json.loads(run(here, "connectors", "preview", "sample", "-n", "2").stdout)
    assert [row["id"] for row in found] == [1, 2]
    assert found[0] == {"id": 1, "name": "row 1", "price": "1"}
    shown = run(here, "connectors", "preview", "sample", "-n", "2", "-o", "table")
    assert "row 2" in shown.stdout
    assert "row 3" not in shown.stdout


def test_an_unreachable_source_ends_with_11_and_a_remedy(here: Any, aiia: Any) -> None:
    port = free_port()
    here.write(url=f"postgresql://a@127.0.0.1:{port}/b")
    done = aiia("connectors", "preview", "sample", "-o", "json")
    assert done.exit_code == 11
    told = json.loads(done.stderr)
    assert told["code"] == "connection-refused"
    assert f"127.0.0.1:{port}" in told["remedy"]


def test_discover_prints_columns_in_the_form_of_a_connector_file(here: Any, aiia: Any) -> None:
    path = here.write()
    text = aiia("connectors", "discover", "sample", "-o", "plain").stdout
    assert "id:\n      type: int32\n      nullable: false" in text
    columns = json.loads(aiia("connectors", "discover", "sample").stdout)["streams"][0]["columns"]
    entry = f"    columns: {json.dumps(columns)}\n"
    path.write_text(path.read_text(encoding="utf-8") + entry, encoding="utf-8")
    assert aiia("connectors", "validate").exit_code == 0


def test_schema_shows_the_columns_at_the_source(here: Any, store: JobStore, aiia: Any) -> None:
    here.write()
    found = json.loads(aiia("connectors", "schema", "sample").stdout)
    assert [(row["column"], row["type"]) for row in found] == [
        ("id", "int32"),
        ("name", "string"),
        ("price", "decimal"),
    ]
    assert aiia("connectors", "schema", "sample", "--stream", "rowz").exit_code == 3


def test_a_changed_source_differs_until_it_is_accepted(
    here: Any, server: EmbeddedPostgres, store: JobStore, aiia: Any
) -> None:
    here.write()
    assert aiia("connectors", "schema", "sample", "--accept").exit_code == 0
    assert aiia("connectors", "schema", "sample", "--diff").exit_code == 0
    db = server.connect("sample", "sample_read")
    db.autocommit = True
    with db.cursor() as cursor:
        cursor.execute("alter table public.rows rename column name to label")
        try:
            done = aiia("connectors", "schema", "sample", "--diff")
            assert done.exit_code == 10
            told = json.loads(done.stdout)["differences"]["rows"]
            assert "column 'name' (string) is missing" in told[0]
            assert "label" in aiia("connectors", "schema", "sample", "--diff", "-o", "plain").stdout
            assert aiia("connectors", "schema", "sample", "--accept").exit_code == 0
            assert aiia("connectors", "schema", "sample", "--diff").exit_code == 0
        finally:
            cursor.execute("alter table public.rows rename column label to name")
    db.close()


@contextmanager
def changed(server: EmbeddedPostgres, *statements: str, back: str) -> Iterator[None]:
    """Change the table of the source for a while."""
    db = server.connect("sample", "sample_read")
    db.autocommit = True
    with closing(db), db.cursor() as cursor:
        try:
            for statement in statements:
                cursor.execute(statement)
            yield
        finally:
            cursor.execute(back)


def schema(aiia: Any, *options: str) -> Any:
    return json.loads(aiia("connectors", "schema", "sample", *options, "-o", "json").stdout)


def test_schema_shows_what_was_learned_without_asking_the_source(
    here: Any, store: JobStore, aiia: Any
) -> None:
    path = here.write()
    assert {row["origin"] for row in schema(aiia)} == {"source"}
    assert aiia("connectors", "schema", "sample", "--accept").exit_code == 0
    path.write_text(path.read_text(encoding="utf-8").replace("127.0.0.1", "nowhere.invalid"))
    found = schema(aiia)
    assert {row["origin"] for row in found} == {"learned"}
    assert list(found[0]) == [
        "stream", "column", "type", "nullable", "declared", "origin", "absent",
    ]  # fmt: skip
    assert "not null" in aiia("connectors", "schema", "sample", "-o", "plain").stdout


def test_a_rename_is_told_with_the_line_that_settles_it(
    here: Any, server: EmbeddedPostgres, store: JobStore, aiia: Any
) -> None:
    path = here.write()
    assert aiia("connectors", "schema", "sample", "--accept").exit_code == 0
    rename = "alter table public.rows rename column name to label"
    with changed(server, rename, back="alter table public.rows rename column label to name"):
        done = aiia("connectors", "schema", "sample", "--diff", "-o", "plain")
        assert done.exit_code == 10
        assert done.stdout.splitlines()[-1].strip() == "name: {from: label}"
        assert "(the same values, same type, same place)" in done.stdout
        (detail,) = schema(aiia, "--diff")["details"]["rows"]
        assert detail["kind"] == "renamed"
        assert (detail["column"], detail["now"]) == ("name", "label (string)")
        assert detail["mapping"] == "name: {from: label}"
        text = path.read_text(encoding="utf-8") + "    columns: {name: {from: label}}\n"
        path.write_text(text, encoding="utf-8")
        assert aiia("connectors", "schema", "sample", "--diff").exit_code == 0


def test_what_the_next_sync_takes_up_is_told_as_such(
    here: Any, server: EmbeddedPostgres, store: JobStore, aiia: Any
) -> None:
    path = here.write()
    text = path.read_text(encoding="utf-8").replace("streams:", "drift: add_only\nstreams:")
    path.write_text(text, encoding="utf-8")
    assert aiia("connectors", "schema", "sample", "--accept").exit_code == 0
    add, drop = (f"alter table public.rows {how}" for how in ("add vat int", "drop vat"))
    with changed(server, add, back=drop):
        done = aiia("connectors", "schema", "sample", "--diff", "-o", "plain")
        assert done.exit_code == 10
        assert "→ column 'vat' (int32) is new at the source and taken up, by" in done.stdout
        told = schema(aiia, "--diff")
        assert told["taken_up"]["rows"] == told["differences"]["rows"]
        assert told["details"]["rows"] == []


def test_what_was_accepted_is_kept_in_the_history_with_who_did_it(
    here: Any, server: EmbeddedPostgres, store: JobStore, aiia: Any
) -> None:
    here.write()
    known = [LearnedColumn(name="id", type="int32", nullable=False)]
    store.transact(lambda db: contracts.learn(db, "sample", "rows", known, number=7))
    told = schema(aiia, "--accept")
    assert told["accepted"] == {"rows": "name added, price added"}
    assert told["differences"] == {"rows": []}
    latest, first = schema(aiia, "--history")
    assert (first["version"], first["change"], first["learned_by"]) == (1, "learned", 7)
    assert (latest["version"], latest["change"]) == (2, "name added, price added")
    assert latest["accepted_by"].endswith("@cli")
    assert [column["name"] for column in latest["columns"]] == ["id", "name", "price"]
    shown = aiia("connectors", "schema", "sample", "--history", "-o", "plain").stdout
    assert "#7" in shown
    schema(aiia, "--accept")
    assert len(schema(aiia, "--history")) == 2


def test_accepting_wants_a_yes_where_nobody_can_be_asked(
    here: Any, store: JobStore, aiia: Any
) -> None:
    here.write()
    done = aiia("connectors", "schema", "sample", "--accept", "-o", "plain")
    assert done.exit_code == 2
    assert "--yes" in done.stderr
    assert contracts.learned(store, "sample", "rows") is None
    done = aiia("connectors", "schema", "sample", "--accept", "--yes", "-o", "plain")
    assert done.exit_code == 0
    assert "are now the contract of sample" in done.stderr
    assert aiia("connectors", "schema", "sample", "--diff", "--accept").exit_code == 2


@pytest.mark.parametrize(
    ("answer", "told"), [("n", "Nothing was changed."), ("y", "are now the contract of sample.")]
)
def test_accepting_is_asked_for_on_a_terminal(
    here: Any, store: JobStore, answer: str, told: str
) -> None:
    here.write()
    terminal, end = pty.openpty()
    os.write(terminal, f"{answer}\n".encode())
    done = subprocess.run(
        [*AIIA, "connectors", "schema", "sample", "--accept", "-o", "plain"],
        env={**os.environ, **here.environment()},
        stdin=end,
        capture_output=True,
        text=True,
        check=False,
    )
    for side in (terminal, end):
        os.close(side)
    assert done.returncode == 0, done.stderr
    assert done.stderr.rstrip().endswith(told)
    assert "rows: no difference; nothing is learned yet" in done.stderr
    assert "Take what the source has now for the contract? [y/N]" in done.stderr
    assert (contracts.learned(store, "sample", "rows") is None) == (answer == "n")


def test_what_the_file_declares_otherwise_is_shown_as_the_line_to_change(
    here: Any, store: JobStore, aiia: Any
) -> None:
    path = here.write()
    columns = "    columns: {price: {type: int32}, gone: {}}\n"
    path.write_text(path.read_text(encoding="utf-8") + columns, encoding="utf-8")
    done = aiia("connectors", "schema", "sample", "--accept", "--yes", "-o", "plain")
    assert done.exit_code == 10
    assert "column 'gone' is missing" in done.stdout
    assert "      price: {type: decimal}" in done.stdout
    assert "change it there" in done.stderr


# -- preview by stage -----------------------------------------------------------------------


def preview(aiia: Any, *options: str) -> Any:
    done = aiia("connectors", "preview", "sample", *options, "-o", "json")
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def with_columns(here: Any, columns: str) -> None:
    path = here.write()
    path.write_text(f"{path.read_text(encoding='utf-8')}    columns: {columns}\n", encoding="utf-8")


def test_a_preview_by_stage_masks_values(here: Any, store: JobStore, aiia: Any) -> None:
    here.write()
    assert preview(aiia, "-n", "1") == [{"id": 1, "name": "row 1", "price": "1"}]
    masked = [{"id": "#", "name": "xxx #", "price": "#"}]
    assert preview(aiia, "-n", "1", "--stage", "input") == masked
    assert preview(aiia, "-n", "1", "--stage", "input", "--show-values")[0]["name"] == "row 1"


def test_a_preview_after_conversion_has_the_columns_of_the_contract(
    here: Any, store: JobStore, aiia: Any
) -> None:
    with_columns(here, "{id: {type: int64}, label: {from: name}}")
    (row,) = preview(aiia, "-n", "1", "--stage", "converted", "--show-values")
    assert row == {"id": 1, "label": "row 1", "price": "1"}
    assert preview(aiia, "-n", "1", "--stage", "converted")[0]["label"] == "xxx #"


def test_a_preview_of_rejected_rows_names_the_rules_they_break(
    here: Any, store: JobStore, aiia: Any
) -> None:
    with_columns(here, "{id: {type: int32, checks: {gt: 2}}}")
    found = preview(aiia, "--stage", "rejected")
    assert [row["row"] for row in found] == [1, 2]
    assert "gt(2)" in found[0]["rules"]
    assert found[0]["record"] == {"id": "#", "name": "xxx #", "price": "#"}
    shown = aiia("connectors", "preview", "sample", "--stage", "rejected", "-n", "1", "-o", "plain")
    assert "20 rows looked at; 1 of those that break a rule are shown." in shown.stderr


def test_a_preview_of_a_broken_contract_ends_as_its_sync_would(
    here: Any, store: JobStore, aiia: Any
) -> None:
    with_columns(here, "{gone: {}}")
    done = aiia("connectors", "preview", "sample", "--stage", "converted", "-o", "json")
    assert done.exit_code == 10
    assert json.loads(done.stderr)["code"] == "column-mismatch"


def given(here: Any, **more: Any) -> list[str]:
    port = here.server.port
    options = {
        "name": "orders",
        "title": "Orders DB",
        "url": f"postgresql://sample_read@127.0.0.1:{port}/sample",
        "password-ref": "${file:secrets/sample_read}",
        "table": "public.rows",
    } | more
    return [part for name, value in options.items() for part in (f"--{name}", value)]


def test_new_writes_a_tested_file_that_can_be_used(here: Any, aiia: Any) -> None:
    done = aiia("connectors", "new", "sql", *given(here))
    assert done.exit_code == 0, done.stderr
    assert "✓ login" in done.stderr
    assert "✓ query rows" in done.stderr
    told = json.loads(done.stdout)
    assert (told["file"], told["test"]) == (str(here.connectors / "orders.yaml"), "Completed")
    assert aiia("connectors", "validate").exit_code == 0
    assert run(here, "connectors", "preview", "orders", "-n", "1").returncode == 0


def test_new_writes_nothing_when_the_test_fails(here: Any, aiia: Any) -> None:
    url = f"postgresql://sample_read@127.0.0.1:{here.server.port}/nowhere"
    done = aiia("connectors", "new", "sql", *given(here, url=url))
    assert done.exit_code == 11
    assert "Nothing was written" in done.stderr
    assert not list(here.connectors.iterdir())
    assert "- permission rows" in done.stderr
    assert "--untested" in done.stderr
    assert aiia("connectors", "new", "sql", *given(here, url=url), "--no-test").exit_code == 0


def test_new_writes_what_failed_its_test_when_it_is_told_to(here: Any, aiia: Any) -> None:
    url = f"postgresql://sample_read@127.0.0.1:{free_port()}/sample"
    done = aiia("connectors", "new", "sql", *given(here, url=url), "--untested")
    assert done.exit_code == 0
    assert "✕ tcp" in done.stderr
    assert "To paste to a firewall team:" in done.stderr
    assert json.loads(done.stdout)["test"] == "Failed"
    assert (here.connectors / "orders.yaml").exists()


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 11)])
def test_new_asks_a_person_whether_to_write_what_failed_its_test(
    here: Any, answer: str, code: int
) -> None:
    url = f"postgresql://sample_read@127.0.0.1:{free_port()}/sample"
    words = [
        sys.executable,
        "-m",
        "aiia_pipelines",
        "connectors",
        "new",
        "sql",
        *given(here, url=url),
    ]
    terminal, theirs = os.openpty()
    with os.fdopen(terminal, "wb", buffering=0) as keyboard:
        asking = subprocess.Popen(
            words, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        os.close(theirs)
        keyboard.write(f"{answer}\n".encode())
        _, told = asking.communicate(timeout=60)
    assert asking.returncode == code, told
    assert b"Write the file all the same? [y/N]" in told
    assert (here.connectors / "orders.yaml").exists() == (answer == "y")


@pytest.mark.parametrize(
    "wrong",
    [
        {"title": "two\nlines"},
        {"name": "Orders"},
        {"password-ref": "hunter2hunter2"},
        {"schedule": "* *"},
    ],
)
def test_new_refuses_what_no_connector_file_may_hold(
    here: Any, aiia: Any, wrong: dict[str, str]
) -> None:
    done = aiia("connectors", "new", "sql", *given(here, **wrong))
    assert done.exit_code == 5
    assert "hunter2hunter2" not in done.stderr
    assert not list(here.connectors.iterdir())


def test_new_never_overwrites(here: Any, aiia: Any) -> None:
    path = here.write("orders")
    before = path.read_text(encoding="utf-8")
    done = aiia("connectors", "new", "sql", *given(here))
    assert done.exit_code == 2
    assert "already a connector 'orders'" in done.stderr
    assert path.read_text(encoding="utf-8") == before


def test_new_asks_nothing_where_nobody_answers(here: Any, aiia: Any) -> None:
    done = aiia("connectors", "new", "sql", "--name", "orders", "--no-input")
    assert done.exit_code == 2
    assert "--title, --url, --table" in done.stderr
