"""The workers that ship with linkly.

Each imports the SDK and the library it wraps, never the engine or another worker.
"""
