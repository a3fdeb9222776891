"""Each stream of a connector as a Dagster asset."""
