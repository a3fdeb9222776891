"""Dagster's runs seen as job runs."""
