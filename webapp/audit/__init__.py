"""The audit log: who logged in, and who changed an account, a membership or an invitation."""
