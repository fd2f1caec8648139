//! Who may ask: with a token whoever knows it, without one only programs of this machine and pages of this server.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::error::Refusal;
use crate::server::Server;

/// Lets a request through, or refuses it.
pub(crate) async fn guard(State(server): State<Arc<Server>>, request: Request, next: Next) -> Response {
    match check(&server, &request) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

fn check(server: &Server, request: &Request) -> Result<(), Refusal> {
    let text = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    let Some(token) = &server.settings.token else {
        // A page of another site that has its name point to this machine is none of ours.
        let host = text(header::HOST).or_else(|| request.uri().authority().map(|authority| authority.as_str()));
        return match host.is_none_or(is_loopback) {
            true => Ok(()),
            false => Err(Refusal::new(
                StatusCode::FORBIDDEN,
                "this server answers on this machine alone: ask it as localhost or 127.0.0.1",
            )),
        };
    };
    // The page itself holds no secret: it asks for the token.
    if !request.uri().path().starts_with("/v1/")
        && !["/metrics", "/runs"].iter().any(|path| request.uri().path().starts_with(path))
    {
        return Ok(());
    }
    let given = text(header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
    match given.is_some_and(|given| is_same(given, token)) {
        true => Ok(()),
        false => Err(Refusal {
            code: Some("invalid_api_key"),
            ..Refusal::new(
                StatusCode::UNAUTHORIZED,
                "this server wants its token: send it as `Authorization: Bearer TOKEN`, OpenAI's clients as their api_key",
            )
        }),
    }
}

/// Whether two secrets are the same; it takes as long whatever is given.
fn is_same(given: &str, token: &str) -> bool {
    // Of digests, so that not even the length is told.
    Sha256::digest(given).ct_eq(&Sha256::digest(token)).into()
}

/// Whether the host of a request is this machine by a name that no other site can have.
fn is_loopback(host: &str) -> bool {
    if let Ok(address) = host.parse::<SocketAddr>() {
        return address.ip().is_loopback();
    }
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.is_empty() => name,
        _ => host,
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_this_machine_are_known() {
        for host in ["localhost", "LOCALHOST:80", "127.0.0.1", "127.0.0.1:8080", "127.9.9.9:1", "[::1]", "[::1]:8080"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["example.org", "localhost.example.org:80", "10.0.0.1:8080", "127.0.0.1.example.org", "", ":80"] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn only_the_same_secret_is_the_same() {
        assert!(is_same("secret", "secret") && !is_same("secre", "secret") && !is_same("", "secret"));
    }
}
