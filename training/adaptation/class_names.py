"""In which order classes are numbered."""


def class_order(name: str) -> tuple[float, str]:
    """Key to sort by: numbers by value, before text."""
    return (float(name), name) if name.replace(".", "", 1).isdigit() else (float("inf"), name)
