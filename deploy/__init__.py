"""The `chatbus` command, the local stack, and what deploys chatbus elsewhere."""
