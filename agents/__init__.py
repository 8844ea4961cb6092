"""What acts on a host: agent, helper, policy, journal, one file per action family."""
