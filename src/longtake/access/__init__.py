"""Access control: API keys, short-lived tokens, the access rules of files, and the signatures of webhooks."""
