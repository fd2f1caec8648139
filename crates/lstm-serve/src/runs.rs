//! The dashboard's facts: the runs in a folder, and the metrics of one as they grow.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use axum::Json;
use axum::extract::{Path as UrlPath, Query, State};
use axum::http::StatusCode;
use lstm::model::Loss;
use lstm::run::summary::Summary;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::Refusal;
use crate::server::Server;

/// The most lines of metrics in one answer.
const MOST_LINES: usize = 5000;

/// Which lines are asked for.
#[derive(Debug, Deserialize)]
pub(crate) struct From {
    /// The lines that are known already.
    #[serde(default)]
    from: usize,
}

/// Answers `/runs`: the names of the runs and when each was last written, the latest first.
pub(crate) async fn list(State(server): State<Arc<Server>>) -> Result<Json<Value>, Refusal> {
    let folder = folder(&server)?;
    let runs = read(move || Summary::of_all(&folder).map_err(|error| error.to_string())).await?;
    let runs = runs.iter().map(|run| {
        let written = run.written.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let card = run.card.as_ref();
        let figure = |loss: Option<Loss>| Some(run.about.as_ref().ok()?.figure(loss?));
        json!({
            "name": run.folder.file_name().map(|name| name.to_string_lossy()),
            "written": written.map(|time| time.as_secs()),
            "seconds": run.seconds,
            "model": run.about.as_ref().map(|about| about.model.clone()).ok(),
            "task": run.about.as_ref().map(|about| about.task).ok(),
            "trouble": run.about.as_ref().err().map(ToString::to_string),
            "valid": figure(card.and_then(|card| card.valid)),
            "test": figure(card.and_then(|card| card.test)),
        })
    });
    Ok(Json(json!({"runs": runs.collect::<Vec<_>>()})))
}

/// Answers `/runs/NAME`: the lines of its metrics from a given one on.
pub(crate) async fn metrics(
    State(server): State<Arc<Server>>,
    UrlPath(name): UrlPath<String>,
    Query(From { from }): Query<From>,
) -> Result<Json<Value>, Refusal> {
    let folder = folder(&server)?;
    let lines = read(move || {
        let file = run_in(&folder, &name)?.join("metrics.jsonl");
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        // The last may be half written.
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        Ok(lines.skip(from).take(MOST_LINES).collect::<Vec<_>>())
    })
    .await?;
    Ok(Json(json!({"from": from, "lines": lines})))
}

fn folder(server: &Server) -> Result<PathBuf, Refusal> {
    server.settings.runs.clone().ok_or_else(|| {
        Refusal::new(StatusCode::NOT_FOUND, "no folder of runs was named when this server was started; name one: runs")
    })
}

/// The run of this name among those in a folder: never a path that leads out of it.
fn run_in(folder: &Path, name: &str) -> Result<PathBuf, String> {
    let entries = std::fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let found = entries.filter_map(Result::ok).find(|entry| entry.file_name().to_str() == Some(name));
    found.map(|entry| entry.path()).ok_or_else(|| format!("there is no run {name}"))
}

/// Reads files where that holds nobody up.
async fn read<T: Send + 'static>(read: impl FnOnce() -> Result<T, String> + Send + 'static) -> Result<T, Refusal> {
    match tokio::task::spawn_blocking(read).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(why)) => Err(Refusal::new(StatusCode::NOT_FOUND, why)),
        Err(_) => Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the runs could not be read")),
    }
}
