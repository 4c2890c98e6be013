"""The engine's tables. No socket, file, clock or server in here."""
