"""What looks after job runs that cannot look after themselves."""

from aiia_pipelines.sensors.job_history import job_history

__all__ = ["job_history"]
