//! SPIFFE identity and mTLS.
