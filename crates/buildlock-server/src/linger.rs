//! Closing a connection so that the client hears the last answer. A socket that is closed while the client
//! still sends, as it may after a refusal, is reset by the system, and the answer is lost on the way.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// How long a client may go on sending after the last answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// How much it may send then. More than a body that is refused for its size has as a rule.
const MOST_BYTES: usize = 16 << 20;

/// A stream that, when it is shut down, takes what the other side still sends, and throws it away.
#[derive(Debug)]
pub(crate) struct Linger<S> {
    stream: S,
    ending: Option<Ending>,
}

#[derive(Debug)]
struct Ending {
    over: Pin<Box<Sleep>>,
    bytes_left: usize,
}

impl<S> Linger<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, ending: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Linger<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Linger<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, ending } = &mut *self;
        if ending.is_none() {
            ready!(Pin::new(&mut *stream).poll_shutdown(context))?;
        }
        let ending = ending.get_or_insert_with(|| Ending { over: Box::pin(sleep(PATIENCE)), bytes_left: MOST_BYTES });
        loop {
            let mut bytes = [0; 4096];
            let mut buffer = ReadBuf::new(&mut bytes);
            match Pin::new(&mut *stream).poll_read(context, &mut buffer) {
                Poll::Pending => return ending.over.as_mut().poll(context).map(Ok),
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() && ending.bytes_left > 0 => {
                    ending.bytes_left = ending.bytes_left.saturating_sub(buffer.filled().len());
                }
                // It has ended, is broken, or is too much: nothing of it concerns anybody.
                Poll::Ready(_) => return Poll::Ready(Ok(())),
            }
        }
    }
}
