"""The command line: one file per group of commands, each loaded when it is used; speaks to the control API only."""
