//! Sockets: who may connect, how long they may take, and how it ends. Knows
//! nothing of what is said over them.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_io_timeout::TimeoutStream;

use crate::config::Limits;

/// Most headers of a request.
const HEADERS: usize = 64;

/// How long connections may take to close once all answers are given.
const FAREWELL: Duration = Duration::from_secs(2);

/// Serves until `over` says so, then lets connections end.
pub async fn listen(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    mut over: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let all = limits.connections as u32;
    loop {
        // Without a place, a client waits in the system's own queue.
        let place = tokio::select! {
            place = places.clone().acquire_owned() => place,
            _ = over.wait_for(|over| *over) => break,
        };
        let Ok(place) = place else { break };
        let stream = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = over.wait_for(|over| *over) => break,
        };
        let Ok((stream, _)) = stream else {
            // Out of descriptors, or a client that went at once: others may do.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let served = serve(stream, router.clone(), limits.clone(), over.clone());
        tokio::spawn(async move {
            served.await;
            drop(place);
        });
    }
    drop(listener);
    // All places back: nobody is connected.
    let _ = tokio::time::timeout(FAREWELL, places.acquire_many(all)).await;
}

async fn serve(stream: TcpStream, router: Router, limits: Limits, mut over: watch::Receiver<bool>) {
    // Tokens are small and wanted at once.
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(limits.transfer_time));
    let service = TowerToHyperService::new(router);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.transfer_time)
        .max_buf_size(limits.head.max(8192))
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(Box::pin(stream)), service);
    let mut connection = std::pin::pin!(connection);
    // What a client breaks off is its own affair.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = over.wait_for(|over| *over) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}
