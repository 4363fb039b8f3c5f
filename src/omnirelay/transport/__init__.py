"""gRPC over HTTP/2 with mutual TLS 1.3: the server, the way to peers, and who is at the other end."""
