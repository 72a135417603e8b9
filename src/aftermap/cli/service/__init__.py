"""Commands of the service: `aftermap serve`, its tokens and its workers."""
