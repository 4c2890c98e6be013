"""Where links and clicks are kept: one interface (`store.py`), one file or folder a store, one test suite over all."""
