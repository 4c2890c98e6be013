"""The engine's tables, and what every worker meets, local or remote: router, channels. No socket, task or Engine."""
