"""Cohorts of any size: a manifest of series, local or in an object store, over the cores and GPUs of a Ray cluster."""
