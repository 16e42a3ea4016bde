"""What guards people's accounts."""
