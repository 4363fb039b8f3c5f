"""OmniRelay Mesh Failover: replication between clusters, ownership of namespaces, and failover between them."""

__version__ = "1.0.0"
