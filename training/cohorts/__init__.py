"""Public cohorts, and any other, as lesion tables."""
