"""Events that follow from a database change: written with it, published after it."""
