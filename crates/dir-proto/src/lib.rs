//! Generated gRPC types, and the way between wire and core.
