"""What a site is: quantities, schema, loader, profiles. Imports nothing else of ours."""
