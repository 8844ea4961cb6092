"""The loop rehearsed in virtual time, by a script that says what comes in and what is expected."""
