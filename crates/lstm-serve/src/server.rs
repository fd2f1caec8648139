//! Addresses, start and end.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::{Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use axum::{Json, Router, middleware};
use lstm::nn::config::ConfigError;
use lstm::run::saved::LoadedRun;
use serde_json::{Value, json};

use crate::engine::Engine;
use crate::error::Refusal;
use crate::settings::Settings;
use crate::{access, completions, measures, runs, score};

/// How long the body of a request may take to come.
const BODY: Duration = Duration::from_secs(30);

/// How often it is looked whether the server is asked to end.
const LOOK: Duration = Duration::from_millis(50);

/// Why a server does not start, or ends.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A setting that cannot be meant.
    #[error("{0}")]
    Setting(String),
    /// A model that cannot be served.
    #[error("{name} cannot be served: {why}")]
    Model {
        /// Its name.
        name: String,
        /// The reason.
        why: ConfigError,
    },
    /// An address that cannot be listened at.
    #[error("{address} cannot be listened at: {why}; choose another `port`, or end what listens there")]
    Address {
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        why: std::io::Error,
    },
}

/// What all requests share.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) settings: Settings,
    engines: Vec<Arc<Engine>>,
    started: u64,
    ends: AtomicBool,
}

impl Server {
    /// The model that is asked for; where there is one alone it need not be named.
    pub(crate) fn engine(&self, name: Option<&str>) -> Result<&Arc<Engine>, Refusal> {
        let found = match (name, self.engines.as_slice()) {
            (None, [only]) => Some(only),
            (name, engines) => engines.iter().find(|engine| Some(engine.name.as_str()) == name),
        };
        found.ok_or_else(|| {
            let names: Vec<&str> = self.engines.iter().map(|engine| engine.name.as_str()).collect();
            let why = match name {
                Some(name) => format!("there is no model {name} here; there is {}", names.join(", ")),
                None => format!("no model is named; name one of {}", names.join(", ")),
            };
            let status = if name.is_some() { StatusCode::NOT_FOUND } else { StatusCode::BAD_REQUEST };
            Refusal { field: Some("model"), code: Some("model_not_found"), ..Refusal::new(status, why) }
        })
    }
}

/// Serves models, each by its name, until `stop` is set; then no request is taken any more, and the server ends when all that were
/// taken are answered. `ready` is told the address once it is listened at.
///
/// # Errors
/// Settings that cannot be meant, a model that cannot be run token by token, an address that is taken.
pub fn serve(
    models: Vec<(String, LoadedRun)>,
    settings: Settings,
    stop: Arc<AtomicBool>,
    ready: impl FnOnce(SocketAddr),
) -> Result<(), ServeError> {
    check(&models, &settings)?;
    let start = |(name, model): (String, LoadedRun)| match Engine::start(name.clone(), model, &settings) {
        Ok(engine) => Ok(Arc::new(engine)),
        Err(why) => Err(ServeError::Model { name, why }),
    };
    let engines = models.into_iter().map(start).collect::<Result<_, _>>()?;
    let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let address = settings.address;
    let trouble = |why| ServeError::Address { address, why };
    let server = Arc::new(Server { settings, engines, started, ends: AtomicBool::new(false) });
    more_files();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(trouble)?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(address).await.map_err(trouble)?;
        ready(listener.local_addr().map_err(trouble)?);
        // A token is a small packet, which is not to wait for the next one.
        let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
        let ends = server.clone();
        let asked_to_end = async move {
            while !stop.load(Ordering::Relaxed) {
                tokio::time::sleep(LOOK).await;
            }
            ends.ends.store(true, Ordering::Relaxed);
        };
        axum::serve(listener, routes(server)).with_graceful_shutdown(asked_to_end).await.map_err(trouble)
    })
}

fn check(models: &[(String, LoadedRun)], settings: &Settings) -> Result<(), ServeError> {
    let setting = |why: String| Err(ServeError::Setting(why));
    if models.is_empty() {
        return setting("there is no model to serve; name one".to_owned());
    }
    let mut names = BTreeSet::new();
    if let Some((name, _)) = models.iter().find(|(name, _)| !names.insert(name)) {
        return setting(format!("two models are named {name}; give one another name: NAME=MODEL"));
    }
    if settings.token.as_ref().is_some_and(String::is_empty) {
        return setting("the token is empty, so that everybody would know it; give one of some length".to_owned());
    }
    if !settings.address.ip().is_loopback() && settings.token.is_none() {
        return setting(format!(
            "{} can be reached from other machines, and without a token anybody there could use it; give a token, or \
             listen at 127.0.0.1",
            settings.address.ip()
        ));
    }
    for (name, value, least, most) in [
        ("rows", settings.rows, 1, 4096),
        ("waiting", settings.waiting, 0, 1_000_000),
        ("most-tokens", settings.most_tokens, 1, 100_000_000),
        ("most-bytes", settings.most_bytes, 1024, 1 << 30),
        ("time", settings.time.as_secs() as usize, 1, 86_400),
    ] {
        if !(least..=most).contains(&value) {
            return setting(format!("`{name}` is {value}; it must be at least {least} and at most {most}"));
        }
    }
    Ok(())
}

/// As many open connections as the system allows, where a shell allows fewer at first.
fn more_files() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit, setrlimit};
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        // With fewer the server works all the same.
        let _ = setrlimit(Resource::Nofile, limit);
    }
}

type Shared = State<Arc<Server>>;

fn routes(server: Arc<Server>) -> Router {
    let files: [(&str, &str, &'static str); 6] = [
        ("/", "text/html; charset=utf-8", include_str!("../page/index.html")),
        ("/style.css", "text/css; charset=utf-8", include_str!("../page/style.css")),
        ("/page.js", "text/javascript; charset=utf-8", include_str!("../page/page.js")),
        ("/docs", "text/html; charset=utf-8", include_str!("../page/docs.html")),
        ("/docs.js", "text/javascript; charset=utf-8", include_str!("../page/docs.js")),
        ("/openapi.json", "application/json", include_str!("../page/openapi.json")),
    ];
    let mut routes = Router::new();
    for (path, kind, text) in files {
        let headers: [(HeaderName, String); 4] = [
            (header::CONTENT_TYPE, kind.to_owned()),
            (header::CACHE_CONTROL, "no-cache".to_owned()),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
            // Nothing of another site, nor in one's frame.
            (header::CONTENT_SECURITY_POLICY, "default-src 'self'; frame-ancestors 'none'; base-uri 'none'".to_owned()),
        ];
        routes = routes.route(path, get(move || async move { (headers, text) }));
    }
    routes
        .route("/favicon.ico", get(|| async { StatusCode::NO_CONTENT }))
        .route("/v1/completions", post(complete))
        .route("/v1/score", post(scored))
        .route("/v1/models", get(models))
        .route("/v1/models/{name}", get(model))
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .route("/runs", get(runs::list))
        .route("/runs/{name}", get(runs::metrics))
        .fallback(|request: Request| async move {
            let what = format!("there is no {} here; /docs says what there is", request.uri().path());
            Refusal::new(StatusCode::NOT_FOUND, what)
        })
        .method_not_allowed_fallback(|request: Request| async move {
            let what = format!("{} is not asked by {}; see /docs", request.uri().path(), request.method());
            Refusal::new(StatusCode::METHOD_NOT_ALLOWED, what)
        })
        .layer(middleware::from_fn_with_state(server.clone(), access::guard))
        .with_state(server)
}

/// The body of a request that asks a model for something.
async fn body(server: &Server, request: Request) -> Result<Bytes, Refusal> {
    if server.ends.load(Ordering::Relaxed) {
        return Err(Refusal::later(
            StatusCode::SERVICE_UNAVAILABLE,
            "this server is about to end; ask another, or later",
            5,
        ));
    }
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("");
    // What pages of other sites can send without asking first is not taken.
    if !kind.split(';').next().unwrap_or("").trim().eq_ignore_ascii_case("application/json") {
        let why = format!("the body is sent as {kind:?}; send it as application/json");
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, why));
    }
    let most = server.settings.most_bytes;
    let too_large = || {
        let why = format!("the body has more than the {most} bytes that this server takes; send less at once");
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, why)
    };
    let length =
        request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > most) {
        return Err(too_large());
    }
    match tokio::time::timeout(BODY, to_bytes(request.into_body(), most)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error))
            if std::error::Error::source(&error).is_some_and(|error| error.to_string().contains("limit")) =>
        {
            Err(too_large())
        }
        Ok(Err(error)) => Err(Refusal::new(StatusCode::BAD_REQUEST, format!("the body did not come whole: {error}"))),
        Err(_) => Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time")),
    }
}

async fn complete(State(server): Shared, request: Request) -> Result<Response, Refusal> {
    let body = body(&server, request).await?;
    completions::complete(server, body).await
}

async fn scored(State(server): Shared, request: Request) -> Result<Json<Value>, Refusal> {
    let body = body(&server, request).await?;
    score::score(server, body).await
}

/// What is known of a model: OpenAI's fields, then ours.
fn described(server: &Server, engine: &Engine) -> Value {
    let LoadedRun { config, tokenizer, card, .. } = &*engine.model;
    let lstm = engine.model.model.lstm().config();
    let units: Vec<usize> = (0..lstm.layers).map(|layer| lstm.recurrent(layer)).collect();
    json!({
        "id": engine.name, "object": "model", "created": server.started, "owned_by": "lstm",
        "description": config.model.to_string(), "layers": lstm.layers, "units": units,
        "vocabulary": tokenizer.vocabulary_size(), "tokens": tokenizer.kind().to_string(),
        "valid_perplexity": card.valid.map(|loss| loss.perplexity()),
        "test_perplexity": card.test.map(|loss| loss.perplexity()),
        "state_bytes": engine.state_bytes, "max_tokens": server.settings.most_tokens,
    })
}

async fn models(State(server): Shared) -> Json<Value> {
    let models: Vec<Value> = server.engines.iter().map(|engine| described(&server, engine)).collect();
    Json(json!({"object": "list", "data": models, "runs": server.settings.runs.is_some()}))
}

async fn model(
    State(server): Shared,
    axum::extract::Path(name): axum::extract::Path<String>,
) -> Result<Json<Value>, Refusal> {
    let engine = server.engine(Some(&name))?;
    Ok(Json(described(&server, engine)))
}

async fn health(State(server): Shared) -> Response {
    let ends = server.ends.load(Ordering::Relaxed);
    let status = if ends { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (status, Json(json!({"status": if ends { "ending" } else { "ok" }}))).into_response()
}

async fn metrics(State(server): Shared) -> Response {
    let models: Vec<_> = server.engines.iter().map(|engine| (engine.name.as_str(), &*engine.measures)).collect();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], measures::prometheus(&models))
        .into_response()
}
