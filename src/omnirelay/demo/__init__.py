"""A mesh on one machine, for people who want to see it work: real processes, real certificates, real disks."""
