import re
import subprocess
from typing import get_args

import pytest

from aiia_pipelines.jobs.catalogue import (
    CATALOGUE,
    LANGUAGES,
    Category,
    FailureClass,
    Language,
    texts_of,
)
from aiia_pipelines.jobs.failures import Failure
from aiia_pipelines.jobs.families import FAMILIES, checks_by_family

ROWS = list(CATALOGUE.values())
HOLDER = re.compile(r"\{[^}]*\}")
CODE = re.compile(r"`[^`]+`")
# Names that Arabic sentences keep as they are.
NAMES = re.compile(r"\b(?:TLS|VPN|DNS|OOM|Dagster)\b")
# What only the people of one family have at hand, or know.
OWN_WORDS = {
    "postgresql": ("psql", "pg_isready", "pg_", "statement_timeout", "pg_hba", "sslmode"),
    "mysql": ("mariadb", "mysql", "innodb"),
    "mssql": ("sqlcmd",),
    "oracle": ("sqlplus", "tnsping"),
    "hana": ("hdbsql",),
    "sqlite": ("sqlite3",),
    "duckdb": ("duckdb ",),
    "s3": ("aws s3",),
    "rest": ("curl",),
}
SHARED_WORDS = {"hana": ("statement_timeout",), "s3": ("curl",)}

every_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.code)
every_language = pytest.mark.parametrize("language", LANGUAGES)


def test_the_catalogue_covers_every_category() -> None:
    assert len(ROWS) >= 60
    assert {row.category for row in ROWS} == set(get_args(Category))


@every_row
@every_language
def test_a_row_has_its_words_in_every_language(row: FailureClass, language: Language) -> None:
    texts = texts_of(row, language)
    for text in (texts.cause, texts.remedy):
        assert text.endswith(".")
        assert not text.endswith("..")
        assert 20 <= len(text) <= 200
        assert text == " ".join(text.split())
        assert text.count("`") % 2 == 0
    assert 3 <= len(texts.title) <= 40
    assert not texts.title.endswith(".")
    assert not HOLDER.search(texts.title + texts.cause)
    known = {"{host}", "{port}", "{place}"}
    assert set(HOLDER.findall(texts.remedy)) <= known
    assert sorted(HOLDER.findall(texts.remedy)) == sorted(HOLDER.findall(row.remedy))


@every_row
def test_arabic_words_are_arabic_and_latin_ones_stand_apart(row: FailureClass) -> None:
    texts = texts_of(row, "ar")
    for text in (texts.title, texts.cause, texts.remedy):
        assert re.search("[\u0621-\u064a]{2}", text)
        bare = NAMES.sub("", HOLDER.sub("", CODE.sub("", text)))
        assert not re.search("[A-Za-z]", bare), bare
        assert not re.search("[,;?]", bare), bare
    assert {*CODE.findall(texts.remedy)} >= {
        code for code in CODE.findall(row.remedy) if code.startswith("`aiia")
    }


@every_language
def test_no_row_is_the_copy_of_another(language: Language) -> None:
    told = [texts_of(row, language) for row in ROWS]
    for words in ("title", "cause", "remedy"):
        found = [getattr(texts, words) for texts in told]
        assert len(set(found)) == len(found)


@every_row
def test_words_for_everybody_name_the_tools_of_nobody(row: FailureClass) -> None:
    texts = texts_of(row)
    own = [word for words in OWN_WORDS.values() for word in words]
    for text in (texts.cause, texts.remedy):
        assert not [word for word in own if word in text]
    if "{host}" in row.verify or "{place}" in row.verify:
        assert not [word for word in own if word in row.verify and word != "curl"]


@every_row
def test_no_family_is_told_the_command_of_another(row: FailureClass) -> None:
    failure = Failure(row, "", "db.example.com:5432")
    for family in FAMILIES:
        command = failure.verify(family=family)
        assert not HOLDER.search(command.replace("%{http_code}", ""))
        own = {*OWN_WORDS.get(family, ()), *SHARED_WORDS.get(family, ())}
        foreign = {word for words in OWN_WORDS.values() for word in words} - own
        assert command == failure.verify() or not [word for word in foreign if word in command]


def test_every_command_can_be_pasted_into_a_shell() -> None:
    place = "it's $(here):1"
    commands = {
        Failure(row, "", at).verify(family=family)
        for row in ROWS
        for family in ("", *FAMILIES)
        for at in ("", "db:5432", "[::1]:5432", "/data/in put.csv", place)
    }
    script = "\n".join(sorted(commands))
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_the_command_fits_the_server() -> None:
    refused = Failure(CATALOGUE["invalid-credentials"], "", "db:3306")
    assert refused.verify() == "aiia test CONNECTOR"
    assert refused.verify(family="mysql").startswith("mariadb -h db -P 3306 ")
    assert refused.verify(family="postgresql").startswith("psql -h db -p 3306 ")
    assert refused.verify("s3.example.com:9000", "s3").startswith("aws s3 ls ")
    assert refused.verify(family="no such family") == refused.verify()
    missing = Failure(CATALOGUE["source-not-found"], "", "/data/it's here")
    assert missing.verify(family="files") == "ls -l '/data/it'\"'\"'s here'"
    assert Failure(missing.kind, "").verify(family="files") == "ls -l FILE"


def test_a_destination_is_never_tested_like_a_source() -> None:
    for row in ROWS:
        if row.origin == "destination":
            assert "aiia test" not in row.verify
            assert set(row.checks) <= {"", "postgresql", "duckdb", "s3", "files"}


def test_commands_that_differ_are_told_once_each_with_their_families() -> None:
    row = CATALOGUE["connection-timeout"]
    assert [*checks_by_family(row).values()] == [("sqlite", "duckdb", "files"), ("s3", "rest")]
    assert checks_by_family(CATALOGUE["cancelled"]) == {}


def test_a_failure_speaks_every_language_with_its_place() -> None:
    failure = Failure(CATALOGUE["connection-timeout"], "", "10.0.0.1:5432")
    assert "10.0.0.1:5432" in failure.texts("ar").remedy
    assert failure.texts("ar", "db:1").remedy == failure.texts("ar").remedy.replace(
        "10.0.0.1:5432", "db:1"
    )
    assert failure.texts().remedy == failure.remedy()
    unknown = Failure(failure.kind, "").texts("ar")
    assert unknown.title == "انتهت مهلة الاتصال"
    assert "إلى الخادم، ثم" in unknown.remedy


@every_row
def test_the_row_decides_how_often_a_job_run_tries_again(row: FailureClass) -> None:
    assert row.transient == (row.most_retries > 0)
    failure = Failure(row, "")
    decisions = [failure.retries(attempts) for attempts in range(1, 8)]
    assert decisions == [True] * row.most_retries + [False] * (7 - row.most_retries)


def test_what_would_cost_much_is_tried_again_once() -> None:
    once = {row.code for row in ROWS if row.most_retries == 1}
    assert once == {"query-timeout", "out-of-memory"}
    assert {row.most_retries for row in ROWS} == {0, 1, 5}
