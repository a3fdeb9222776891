"""How a connector's job runs try again by themselves."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from aiia_pipelines.config.checks import refused
from aiia_pipelines.jobs.retry import RetryPolicy

_DEFAULT = RetryPolicy()


class Retry(BaseModel):
    """The key `retry` of a connector file; waits are seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    policy: Literal["standard", "fire_and_forget", "never"] = "standard"
    max_attempts: int = Field(default=_DEFAULT.max_attempts, ge=1, le=100)
    max_in_a_row: int = Field(default=_DEFAULT.max_in_a_row, ge=1, le=100)
    max_with_progress: int = Field(default=_DEFAULT.max_with_progress, ge=1, le=1000)
    first_wait: int = Field(default=int(_DEFAULT.first_wait), ge=1, le=86_400)
    longest_wait: int = Field(default=int(_DEFAULT.longest_wait), ge=1, le=86_400)

    @model_validator(mode="after")
    def _waits_are_in_order(self) -> Self:
        """Refuse a first wait that is longer than the longest."""
        if self.first_wait > self.longest_wait:
            raise refused("first_wait must not be longer than longest_wait")
        return self
