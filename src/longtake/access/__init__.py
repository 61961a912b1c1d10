"""Who may call the server and read its files: API keys, short-lived tokens and webhook signatures."""
