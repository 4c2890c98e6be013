"""config.yaml: read, checked, loaded, edited and followed, and the workers that run by it."""
