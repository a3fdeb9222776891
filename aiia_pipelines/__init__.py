"""Data refresh jobs on Dagster that prove what arrived."""

__version__ = "0.1.0"
