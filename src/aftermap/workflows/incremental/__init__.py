"""Classes learned step by step."""
