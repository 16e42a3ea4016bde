"""Letting a client in by way of a browser: the request, the decision of a person, the code (RFC 6749 section 4.1)."""
