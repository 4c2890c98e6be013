"""SQL as text, for every database: shared by workers, no worker itself. It knows no driver and no connection."""
