"""What goes over the wire: protobuf ↔ model, typed errors ↔ gRPC status. Nothing else converts."""
