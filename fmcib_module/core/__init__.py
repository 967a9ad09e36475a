"""Pure parts: numpy in, dataclass out."""
