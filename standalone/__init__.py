"""The single-machine stack: everything Labelwheel needs, on loopback, without Docker and without root."""
