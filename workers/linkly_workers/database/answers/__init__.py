"""The SQL of `database::atomic` for what it remembers: answers by idempotency key."""
