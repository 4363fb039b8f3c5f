"""The replicator as a process: adapters chosen by the configuration, started in order, stopped in order."""
