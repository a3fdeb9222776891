import pytest

from aiia_pipelines.local.faults import EmbeddedFault
from aiia_pipelines.local.postgres import EmbeddedPostgres

pytestmark = pytest.mark.integration


def test_a_broken_data_folder_is_said_in_one_sentence(server: EmbeddedPostgres) -> None:
    server.start()
    server.stop()
    control = server._cluster().data / "global" / "pg_control"
    control.unlink()
    with pytest.raises(EmbeddedFault, match=r"did not start: .*pg_control.*\.$") as caught:
        server.start()
    assert "\n" not in str(caught.value)
    assert any("pg_control" in line for line in caught.value.log)


def test_a_stranger_in_the_place_of_the_data_is_not_overwritten(server: EmbeddedPostgres) -> None:
    (server.home / "postgres" / "data").mkdir(parents=True)
    (server.home / "postgres" / "data" / "precious").touch()
    with pytest.raises(EmbeddedFault, match="is not a PostgreSQL data folder"):
        server.start()
    assert (server.home / "postgres" / "data" / "precious").exists()


def test_a_lost_superuser_password_is_said_before_anything_is_changed(
    server: EmbeddedPostgres,
) -> None:
    server.start()
    kept = server.passwords.path("aiia")
    aside = kept.rename(server.home / "aside")
    for end in (server.stop, lambda: None):
        with pytest.raises(EmbeddedFault, match="put it back"):
            server.start()
        end()
    aside.rename(kept)
    assert server.start() is True


def test_an_interrupted_setup_is_begun_again(server: EmbeddedPostgres) -> None:
    (server.home / "postgres" / "data.new").mkdir(parents=True)
    (server.home / "postgres" / "data.new" / "half").touch()
    assert server.start() is True
    assert not (server.home / "postgres" / "data.new").exists()
