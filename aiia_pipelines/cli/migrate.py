"""`aiia migrate`: the job-run store at the version of this program."""

import click

from aiia_pipelines.cli.main import Command
from aiia_pipelines.cli.session import output, started


@click.command(cls=Command)
def migrate() -> None:
    """Bring the job-run store to the version of this program; safe to repeat."""
    import sqlalchemy as sa

    from aiia_pipelines.jobs import migrations

    out = output()
    with started() as session:
        engine = sa.create_engine(
            session.url, hide_parameters=True, connect_args={"connect_timeout": 10}
        )
        try:
            before = migrations.current(engine)
            migrations.upgrade(engine)
            after = migrations.current(engine)
        finally:
            engine.dispose()
    changed = before != after
    said = f"from {before or 'nothing'} to {after}" if changed else f"already at {after}"
    out.one(
        {"from": before, "to": after, "changed": changed},
        lambda: [f"✓ The job-run store is {said}."],
    )
