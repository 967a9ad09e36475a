"""What is learned from a study: analyses, figures, its report, and all of it in one command."""
