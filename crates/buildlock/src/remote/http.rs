//! The HTTP client that all parts of buildlock use.

/// An HTTP client to be set up further, which can speak TLS.
///
/// TLS needs cryptography that a process chooses once. If nobody has, it is *ring*'s from now on.
pub fn http_client() -> reqwest::ClientBuilder {
    // An error says that the program has chosen, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
}
