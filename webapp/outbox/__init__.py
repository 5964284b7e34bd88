"""Events of database changes: stored in the transaction of the change, published after it."""
