import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as pace
from hypothesis import strategies as st

from aiia_pipelines.config.faults import ConfigInvalid
from aiia_pipelines.config.settings import Settings, destination_url, destination_urls

unhurried = pace(deadline=None)
CWD = Path("/srv/data")


def test_everything_has_a_default() -> None:
    settings = Settings.load({}, CWD)
    assert settings == Settings(
        home=CWD / ".aiia", connectors=CWD / "connectors", project=CWD, database_url=None
    )
    assert (settings.host, settings.port, settings.postgres_port) == ("127.0.0.1", 3000, 54329)
    assert settings.timezone == "UTC"


def test_variables_are_read_and_paths_start_at_the_working_folder() -> None:
    settings = Settings.load(
        {
            "HOME": "/home/me",
            "AIIA_HOME": "~/state",
            "AIIA_CONNECTORS": "jobs",
            "AIIA_PROJECT": "/opt/p",
            "AIIA_DATABASE_URL": "postgresql://me@db:5433/aiia",
            "AIIA_TIMEZONE": "Asia/Riyadh",
            "AIIA_HOST": "0.0.0.0",
            "AIIA_PORT": " 8080 ",
            "AIIA_POSTGRES_PORT": "",
        },
        CWD,
    )
    assert settings.home == Path("/home/me/state")
    assert settings.connectors == CWD / "jobs"
    assert settings.project == Path("/opt/p")
    assert settings.database_url == "postgresql+psycopg2://me@db:5433/aiia"
    assert (settings.timezone, settings.port, settings.postgres_port) == (
        "Asia/Riyadh",
        8080,
        54329,
    )


def test_a_database_may_be_reached_through_a_socket() -> None:
    url = "postgresql+psycopg2://me@/aiia?host=/run/postgres"
    assert Settings.load({"AIIA_DATABASE_URL": url}, CWD).database_url == url


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AIIA_PORT", "0"),
        ("AIIA_PORT", "65536"),
        ("AIIA_PORT", "http"),
        ("AIIA_POSTGRES_PORT", "-1"),
        ("AIIA_TIMEZONE", "Mars/Olympus"),
        ("AIIA_HOST", "http://x"),
        ("AIIA_HOME", "a\0b"),
        ("AIIA_DATABASE_URL", "mysql://me@db/aiia"),
        ("AIIA_DATABASE_URL", "postgresql://db:5432/"),
        ("AIIA_DATABASE_URL", "postgresql://db:port/aiia"),
        ("AIIA_DATABASE_URL", "postgresql://me:hunter22@db/aiia"),
        ("AIIA_DATABASE_URL", "postgresql://me@db/aiia?password=hunter22"),
    ],
)
def test_a_bad_value_is_told_by_its_variable_and_never_shown(name: str, value: str) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        Settings.load({name: value}, CWD)
    assert str(caught.value).startswith(name)
    assert "hunter22" not in str(caught.value)


@unhurried
@given(
    st.dictionaries(
        st.sampled_from(["AIIA_HOME", "AIIA_CONNECTORS", "AIIA_PROJECT", "AIIA_HOST", "AIIA_PORT"]),
        st.text(max_size=20) | st.integers(1, 65535).map(str),
    )
)
def test_a_child_loads_equal_settings_wherever_it_starts(environ: dict[str, str]) -> None:
    try:
        settings = Settings.load(environ, CWD)
    except ConfigInvalid:
        return
    inherited = {
        **environ,
        "AIIA_DATABASE_URL": "postgresql://other@db/x",
        **settings.environment(),
    }
    assert Settings.load(inherited, Path("/elsewhere")) == settings


def test_a_destination_is_named_by_its_variable() -> None:
    environ = {"AIIA_DESTINATION_LAKE": "postgresql://me@lake/db", "AIIA_DESTINATION_B": " "}
    assert destination_url("lake", environ) == "postgresql://me@lake/db"
    assert destination_url("b", environ) is None
    assert destination_url("c", environ) is None
    found = destination_urls(environ | {"PATH": "/bin"})
    assert found == {name: destination_url(name, environ) for name in found}
    assert "lake" in found
    assert not {"b", "c"} & set(found)


def test_settings_cost_no_heavy_import() -> None:
    heavy = "{'pydantic', 'sqlalchemy', 'pandas', 'pyarrow', 'dagster', 'yaml', 'psycopg'}"
    code = f"import sys, aiia_pipelines.config.settings; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("name", ["EVENTS", "LOGS", "RUNS"])
def test_what_is_kept_how_long_is_a_number_of_days(name: str) -> None:
    variable = f"AIIA_KEEP_{name}_DAYS"
    attribute = f"keep_{name.lower()}_days"
    for text, days in (("0", 0), ("1", 1), ("36500", 36_500)):
        assert getattr(Settings.load({variable: text}, CWD), attribute) == days
    for text in ("-1", "36501", "1.5", "a week", "999999"):
        with pytest.raises(ConfigInvalid, match=rf"{variable} must be a number of days from 0"):
            Settings.load({variable: text}, CWD)
