"""What operators see: metrics, logs, status, the HTTP endpoint, the progress line."""
