"""The jobs: configuration, run folders, what the terminal shows."""
