"""What a worker on a connection meets: the listener, its peer, its functions as endpoints, its share of the loop."""
