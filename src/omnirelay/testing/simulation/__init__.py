"""A whole mesh in one thread, one seed and no time at all.

The replicators are the real ones: their loops run unchanged over a virtual clock, network, disk and coordination
store. What may go wrong is in `faults`, what must hold is in `checkers`, and neither knows of the other; a scenario
says how much of the former a run gets. Everything random comes from the seed, so a failure is replayed by its seed.

    loop        virtual time; processes that can be paused and killed; one callback is one step
    clock       each process's own time: skew, jumps, drift
    network     ordered streams over links that delay, cut, break, and once in a while leave out or repeat a message
    disk        a log whose commits take time, fail, or are cut off by a power failure
    cluster     a replicator as a process, with its ports; a mesh of them
    workload    producers and consumers, and the ledgers of what they were told
    operators   people who drive failovers, emergencies and failbacks, two at once, decide about what diverged, and die
                between any two steps
    faults      what can happen
    checkers    what must hold, by raw logs and raw store
    scenario    how much of each; `run` plays one seed of one scenario
    mutants     planted bugs: the checkers' own test

`python -m omnirelay.testing.simulation --help` runs it.
"""
