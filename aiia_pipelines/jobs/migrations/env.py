"""Alembic's entry: runs the migrations on the connection that the caller opened."""

from alembic import context

from aiia_pipelines.jobs.tables import METADATA, SCHEMA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    version_table_schema=SCHEMA,
    include_schemas=True,
)
with context.begin_transaction():
    context.run_migrations()
