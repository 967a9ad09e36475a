"""The chain beside a PACS: what fetches studies, runs them as `fmcib run` does, and hands the results back."""
