from typing import Any

import jsonschema
import pytest

from aiia_pipelines.config.document import read_document
from aiia_pipelines.config.schema import json_schema


def test_the_schema_is_one_and_accepts_the_documented_sample(sample: str) -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    found = jsonschema.Draft202012Validator(schema).iter_errors(
        read_document(sample.encode()).value
    )
    assert list(found) == []


@pytest.mark.parametrize("change", [{"kron": 1}, {"tier": "urgent"}, {"streams": []}, {"name": 1}])
def test_the_schema_refuses_what_the_reader_refuses(sample: str, change: dict[str, Any]) -> None:
    tree = {**read_document(sample.encode()).value, **change}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(tree, json_schema())


def test_the_schema_offers_the_written_key_from() -> None:
    assert "from" in json_schema()["$defs"]["Column"]["properties"]
