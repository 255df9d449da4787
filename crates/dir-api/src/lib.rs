//! gRPC services and the serving loop.
