"""The kernel's own announcements, by netlink: how processes are executed and end, and what it audits."""
