//! Accepts connections, limits their number and times, and closes them when the server
//! stops. Knows nothing of what is said over them.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Method;
use axum::response::Response;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tokio_io_timeout::TimeoutStream;
use tower::ServiceExt;

use crate::config::Limits;
use crate::places::{Place, Places, Stage};

/// Maximum number of headers of a request.
const HEADERS: usize = 64;

/// Maximum time for connections to close once all answers are given.
const FAREWELL: Duration = Duration::from_secs(2);

/// Whether and how a server closes its sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub enum Closing {
    /// It serves.
    Open,
    /// It accepts no more connections; those that there are may end.
    Gently,
    /// It closes all connections.
    AtOnce,
}

/// Serves until `over` changes, then lets connections end.
pub async fn listen(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    mut over: watch::Receiver<Closing>,
) {
    let places = Places::new(limits.connections);
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = over.wait_for(|over| *over > Closing::Open) => break,
        };
        let Ok((stream, _)) = stream else {
            // Out of descriptors, or the client has gone: the next attempt may succeed.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let place = tokio::select! {
            place = places.enter_when_free() => place,
            _ = over.wait_for(|over| *over > Closing::Open) => break,
        };
        let served = serve(stream, router.clone(), limits.clone(), over.clone(), place);
        tokio::spawn(served);
    }
    drop(listener);
    let _ = tokio::time::timeout(FAREWELL, places.until_empty()).await;
}

async fn serve(
    stream: TcpStream,
    router: Router,
    limits: Limits,
    mut over: watch::Receiver<Closing>,
    place: Place,
) {
    // Tokens are small packets that should not be delayed.
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(limits.transfer_time));
    let place = Arc::new(place);
    let asked = Arc::new(Notify::new());
    let service = hyper::service::service_fn({
        let (place, asked) = (place.clone(), asked.clone());
        move |request: hyper::Request<Incoming>| {
            asked.notify_one();
            answer(router.clone(), place.clone(), request)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.transfer_time)
        .max_buf_size(limits.head.max(8192))
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(Box::pin(stream)), service);
    let mut connection = std::pin::pin!(connection);
    let silent = async {
        if timeout(limits.head_time, asked.notified()).await.is_ok() {
            std::future::pending::<()>().await;
        }
    };
    let mut silent = std::pin::pin!(silent);
    // An error of the connection concerns only its client and is ignored.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = place.until_given_away() => return,
        () = silent.as_mut() => return,
        _ = over.wait_for(|over| *over > Closing::Open) => {}
    }
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        _ = connection => {}
        () = silent => {}
        _ = over.wait_for(|over| *over == Closing::AtOnce) => {}
    }
}

/// Passes a request to the router and records the stages of its connection.
async fn answer(
    router: Router,
    place: Arc<Place>,
    request: hyper::Request<Incoming>,
) -> Result<Response, Infallible> {
    let mut request = request.map(Body::new);
    place.enter_stage(match *request.method() {
        Method::POST => Stage::Body,
        _ => Stage::Page,
    });
    request.extensions_mut().insert(place.clone());
    let response = router.oneshot(request).await?;
    // Dropped with the body, when all of it is sent or the client has gone.
    let end = AtEnd(place);
    Ok(response.map(|body| {
        Body::new(body.map_frame(move |frame| {
            let _ = &end;
            frame
        }))
    }))
}

struct AtEnd(Arc<Place>);

impl Drop for AtEnd {
    fn drop(&mut self) {
        self.0.enter_stage(Stage::Head);
    }
}
