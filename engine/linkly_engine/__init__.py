"""The linkly engine: loads workers, routes calls between them, listens for remote ones."""

__version__ = "0.1.0"

# What holds where nothing else is said. Here, because `linkly trigger` has imported this package before it knows what
# it is asked, and one module more would cost it 0.2 ms. `linkly.Client` has the port in its default URL.
CONFIG_FILE = "config.yaml"
LISTENER = "iii-worker-manager"
"""The name of a worker port's entry in config.yaml."""
HOST, PORT = "127.0.0.1", 49134
"""Of the worker port; iii's."""
