"""Remote workers: the port they connect to, a peer for each, their calls and registrations, their share of the loop."""
