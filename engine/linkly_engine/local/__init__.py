"""What a worker in the engine's process meets: a bus, providers of its trigger types, a stand-in while made anew."""
