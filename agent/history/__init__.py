"""What was measured and done, kept in SQLite or PostgreSQL: written, asked, rolled up, archived."""
