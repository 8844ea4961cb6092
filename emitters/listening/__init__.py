"""What the emitter of syslog hears with: sockets, the journal, the kernel's log; how they are framed and read."""
