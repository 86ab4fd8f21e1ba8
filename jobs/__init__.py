"""What runs on the driver: one module per command."""
