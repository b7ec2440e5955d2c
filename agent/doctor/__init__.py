"""What could keep an installation from working or from giving back."""
