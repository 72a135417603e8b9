"""What people say of the buildings of a map: answers and their journal, the queue, the page, and the server."""
