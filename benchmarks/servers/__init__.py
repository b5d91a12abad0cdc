"""What runs in the server's process."""
