"""What runs in a browser: the page of a review, served on this machine or as one file for a machine without a server."""
