"""What is told of a running replicator to those who watch it: metrics and logs."""
