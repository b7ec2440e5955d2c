"""What was measured, through monitor and decisions again."""
