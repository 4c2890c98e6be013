"""YAML that knows its lines: placeholders, scalars as they were written, every error at its place."""
