"""What a time was like, and why each act was made: gathered, drawn, as page, PDF and JSON."""
