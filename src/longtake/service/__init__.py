"""The HTTP server for fal's clients. It stores requests in the queue, and answers with their statuses and results."""
