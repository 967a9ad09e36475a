"""Adapting features to a task: feature tables, probes, fine-tuning."""
