//! A trace written as another format while the client reads it: blocks of bytes through a bounded channel.

use std::io::{self, Write};

use axum::body::{Body, Bytes};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::limits::{EXPORT_BLOCKS, EXPORT_BUFFER_BYTES};

/// Writes to a client from a thread that may wait for it.
pub(super) struct BodyWriter {
    blocks: mpsc::Sender<io::Result<Bytes>>,
    block: Vec<u8>,
}

/// Both ends: what is written to one is the body of the answer.
pub(super) fn body() -> (BodyWriter, Body) {
    let (blocks, receiver) = mpsc::channel(EXPORT_BLOCKS);
    let writer = BodyWriter { blocks, block: Vec::with_capacity(EXPORT_BUFFER_BYTES) };
    (writer, Body::from_stream(ReceiverStream::new(receiver)))
}

impl BodyWriter {
    /// Ends the answer. An error breaks it off instead, so that the client sees that it is not whole.
    pub(super) fn end(mut self, written: io::Result<()>) {
        let last = written.and_then(|()| self.flush());
        if let Err(error) = last {
            // Fails when the client has left, which is what the error says then.
            let _ = self.blocks.blocking_send(Err(error));
        }
    }
}

impl Write for BodyWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.block.extend_from_slice(bytes);
        if self.block.len() >= EXPORT_BUFFER_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        let block = std::mem::replace(&mut self.block, Vec::with_capacity(EXPORT_BUFFER_BYTES));
        self.blocks.blocking_send(Ok(block.into())).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
