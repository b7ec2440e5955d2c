"""Every operation on a running agent, in one table for HTTP, MQTT and the command line."""
