"""Where values are kept: one interface (`store`), and one module for each implementation."""
