"""One outside library per file, turning its objects into ours and back."""
