"""The broker's side: mirror, commands, their schemas, and the client beneath."""
