"""Device models as data: one TOML file a model, named like the profile."""
