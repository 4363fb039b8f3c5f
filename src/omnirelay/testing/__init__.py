"""Fakes that honour the ports, for our tests, the simulation and anybody who builds on the package.

Production code does not import this package.
"""
