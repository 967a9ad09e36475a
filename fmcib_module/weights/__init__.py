"""Packaged weights (safetensors), their model cards and the scripts that make them."""
