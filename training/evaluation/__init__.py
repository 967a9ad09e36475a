"""Judging predictions: metrics, intervals, tests, survival, agreement."""
