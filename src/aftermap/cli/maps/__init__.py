"""Commands on finished maps and on what others know of the same ground."""
