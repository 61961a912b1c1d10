"""The server that fal's clients talk to: HTTP only, on the queue below it."""
