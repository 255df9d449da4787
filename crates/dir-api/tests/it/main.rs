//! A node in process, over plaintext loopback, driven by the generated clients and by bare HTTP/2.

mod node;
mod store;
