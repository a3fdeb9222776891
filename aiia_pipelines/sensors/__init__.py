"""What looks after job runs that cannot look after themselves."""

from aiia_pipelines.sensors import due_runs
from aiia_pipelines.sensors.job_history import job_history

__all__ = ["due_runs", "job_history"]
