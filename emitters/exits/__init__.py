"""The ends of processes, by whoever tells of them: the kernel's accounting file, its statistics, its connector."""
