"""`engine::*`: the engine about itself, served by an ordinary worker."""
