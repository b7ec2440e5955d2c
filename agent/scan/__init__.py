"""What a device is and offers, as TOML: SNMP, Modbus, BACnet."""
