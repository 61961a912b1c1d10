"""The durable queue: requests in database rows, their states, logs, statuses, history and webhooks."""
