"""What `chatbus up` needs to run everything on one machine."""
