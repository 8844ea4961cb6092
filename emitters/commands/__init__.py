"""What people type and what the kernel executes; and the hooks for shells, `hook.bash` and `hook.zsh`."""
