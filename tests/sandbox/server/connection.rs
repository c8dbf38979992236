//! Serves one connection. hyper reads the requests and writes the responses. Each request is
//! recorded and delayed, and an endpoint or a fault determines its response. For a raw response,
//! hyper's output is discarded, and when hyper has finished, the bytes are written to the socket.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::Shared;
use super::endpoints::{self, BASE};
use super::faults::FaultKind;
use super::record::RecordedRequest;
use super::reply::Reply;
use super::sign_in;

/// Serves a connection until either side closes it.
pub async fn serve<S>(stream: S, shared: Arc<Mutex<Shared>>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let raw = RawSlot::default();
    let io = MuteStream {
        stream,
        raw: Arc::clone(&raw),
    };
    let service = service_fn(|request: Request<Incoming>| {
        let (shared, raw) = (Arc::clone(&shared), Arc::clone(&raw));
        // A separate task completes even if the client disconnects.
        let task = tokio::spawn(respond(request, shared, raw));
        async move { task.await.unwrap_or(Err(ConnectionClosed)) }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(io), service);
    let Ok(parts) = connection.without_shutdown().await else {
        return;
    };
    let mut stream = parts.io.into_inner().stream;
    let bytes = raw.lock().unwrap().take();
    if let Some(bytes) = bytes {
        // The client may have disconnected.
        let _ = bytes.write(&mut stream).await;
    }
    let _ = stream.shutdown().await;
}

/// The error that makes hyper close the connection without a response.
#[derive(Debug)]
struct ConnectionClosed;

impl std::fmt::Display for ConnectionClosed {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("connection closed by a fault")
    }
}

impl std::error::Error for ConnectionClosed {}

async fn respond(
    request: Request<Incoming>,
    shared: Arc<Mutex<Shared>>,
    raw: RawSlot,
) -> Result<Response<Full<Bytes>>, ConnectionClosed> {
    let (head, body) = request.into_parts();
    let body = body
        .collect()
        .await
        .map_err(|_| ConnectionClosed)?
        .to_bytes();
    let target = head
        .uri
        .path_and_query()
        .map_or("/", |target| target.as_str());
    let below_base = target
        .strip_prefix(BASE)
        .filter(|rest| rest.starts_with('/'));
    let path = below_base.unwrap_or(target);
    let path_without_query = path.split('?').next().unwrap_or_default();

    let (recorded, (before, after), fault) = {
        let shared = &mut *shared.lock().unwrap();
        let number = shared.record.next_number();
        let method = head.method.as_str();
        let recorded = RecordedRequest::new(number, method, path, &head.headers, body.to_vec());
        shared.record.requests.push(recorded.clone());
        let fault = shared.settings.take_fault(path_without_query);
        (
            recorded,
            shared.settings.delays_for(path_without_query),
            fault,
        )
    };
    wait(before).await;
    let runs_endpoint = fault.as_ref().is_none_or(|fault| fault.after_work);
    let mut reply = runs_endpoint.then(|| {
        let shared = &mut *shared.lock().unwrap();
        if below_base.is_some() {
            endpoints::respond(shared, path_without_query, &recorded)
        } else {
            sign_in::respond(shared, &recorded).unwrap_or_else(|| Reply::detail(404, "Not found."))
        }
    });
    wait(after).await;

    let shared = &mut *shared.lock().unwrap();
    if let Some(fault) = fault {
        if let FaultKind::Raw {
            bytes,
            chunk,
            pause,
        } = fault.kind
        {
            *raw.lock().unwrap() = Some(RawResponse {
                bytes,
                chunk,
                pause,
            });
            let mut discarded = Response::new(Full::default());
            let close = HeaderValue::from_static("close");
            discarded.headers_mut().insert(CONNECTION, close);
            return Ok(discarded);
        }
        reply = fault.kind.reply(&shared.settings);
    }
    let reply = reply.ok_or(ConnectionClosed)?;
    shared.record.record_status(recorded.number, reply.status);
    Ok(reply.into_response(&shared.settings))
}

async fn wait(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}

/// The raw response to write instead of hyper's, once a fault requires one.
type RawSlot = Arc<Mutex<Option<RawResponse>>>;

/// A response that is written without hyper.
struct RawResponse {
    bytes: Vec<u8>,
    chunk: usize,
    pause: Duration,
}

impl RawResponse {
    async fn write(&self, stream: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        for piece in self.bytes.chunks(self.chunk.max(1)) {
            stream.write_all(piece).await?;
            stream.flush().await?;
            wait(self.pause).await;
        }
        Ok(())
    }
}

/// A stream that discards hyper's output if there is a raw response.
struct MuteStream<S> {
    stream: S,
    raw: RawSlot,
}

impl<S> MuteStream<S> {
    fn is_muted(&self) -> bool {
        self.raw.lock().unwrap().is_some()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for MuteStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for MuteStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_muted() {
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
