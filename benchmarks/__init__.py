"""Speed and first-principles checks, each run by one command."""
