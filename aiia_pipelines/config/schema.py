"""The JSON Schema of connector files, for editors."""

from typing import Any

from aiia_pipelines.config.connector import Connector


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of one connector file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Connector.model_json_schema(by_alias=True),
        "title": "aiia_pipelines connector",
    }
