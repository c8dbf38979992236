//! Serves one connection: hyper reads requests and writes responses; in between, a request is
//! recorded, delayed, and answered by an endpoint or by a fault. A raw response bypasses hyper:
//! hyper's output is discarded, hyper closes, and the bytes are written to the socket.

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

use super::World;
use super::endpoints::{self, BASE};
use super::faults::FaultKind;
use super::record::RecordedRequest;
use super::sign_in;

/// Serves a connection until either side closes it.
pub async fn serve<S>(stream: S, world: Arc<Mutex<World>>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let raw = Slot::default();
    let io = MuteStream {
        stream,
        raw: Arc::clone(&raw),
    };
    let service = service_fn(|request: Request<Incoming>| {
        let (world, raw) = (Arc::clone(&world), Arc::clone(&raw));
        // A separate task, which completes even if the client disconnects.
        let task = tokio::spawn(answer(request, world, raw));
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

/// The connection must close without a response.
#[derive(Debug)]
struct ConnectionClosed;

impl std::fmt::Display for ConnectionClosed {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("connection closed by a fault")
    }
}

impl std::error::Error for ConnectionClosed {}

async fn answer(
    request: Request<Incoming>,
    world: Arc<Mutex<World>>,
    raw: Slot,
) -> Result<Response<Full<Bytes>>, ConnectionClosed> {
    let (head, body) = request.into_parts();
    let body = body
        .collect()
        .await
        .map_err(|_| ConnectionClosed)?
        .to_bytes();
    let full = head
        .uri
        .path_and_query()
        .map_or("/", |target| target.as_str());
    let path = full
        .strip_prefix(BASE)
        .filter(|rest| rest.starts_with('/'))
        .unwrap_or(full);
    let bare = path.split('?').next().unwrap_or_default();

    let (recorded, (before, after), fault) = {
        let world = &mut *world.lock().unwrap();
        let number = world.record.next_number();
        let method = head.method.as_str();
        let recorded = RecordedRequest::new(number, method, path, &head.headers, body.to_vec());
        world.record.requests.push(recorded.clone());
        let fault = world.settings.take_fault(bare);
        (recorded, world.settings.waits(bare), fault)
    };
    wait(before).await;
    let work = fault.as_ref().is_none_or(|fault| fault.after_work);
    let mut reply = if work {
        let world = &mut *world.lock().unwrap();
        // Outside the base path there are only the two pages.
        let inside = full.len() > path.len();
        let known = if inside { bare } else { "" };
        let page = if inside {
            None
        } else {
            sign_in::answer(world, &recorded)
        };
        Some(page.unwrap_or_else(|| endpoints::answer(world, known, &recorded)))
    } else {
        None
    };
    wait(after).await;

    let world = &mut *world.lock().unwrap();
    if let Some(fault) = fault {
        if let FaultKind::Raw {
            bytes,
            chunk,
            pause,
        } = fault.kind
        {
            *raw.lock().unwrap() = Some(Raw {
                bytes,
                chunk,
                pause,
            });
            let mut last = Response::new(Full::default());
            let close = HeaderValue::from_static("close");
            last.headers_mut().insert(CONNECTION, close);
            return Ok(last);
        }
        reply = fault.kind.reply(&world.settings);
    }
    let reply = reply.ok_or(ConnectionClosed)?;
    world.record.answered(recorded.number, reply.status);
    Ok(reply.into_response(&world.settings))
}

async fn wait(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}

type Slot = Arc<Mutex<Option<Raw>>>;

/// A response that is written without hyper.
struct Raw {
    bytes: Vec<u8>,
    chunk: usize,
    pause: Duration,
}

impl Raw {
    async fn write(&self, stream: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        for piece in self.bytes.chunks(self.chunk.max(1)) {
            stream.write_all(piece).await?;
            stream.flush().await?;
            wait(self.pause).await;
        }
        Ok(())
    }
}

/// A stream that discards hyper's output once a raw response is to be sent instead.
struct MuteStream<S> {
    stream: S,
    raw: Slot,
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
