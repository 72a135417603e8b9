"""What can be said about a network, as data: no torch here."""
