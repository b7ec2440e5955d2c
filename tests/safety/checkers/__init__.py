"""Judges that know only what went over the wire: no import of drivers/ or control/."""
