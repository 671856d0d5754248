//! Receives request bodies within limits of length, time and total memory. Memory is
//! reserved for bytes that have arrived, not for the announced length, and the first
//! [`OWN`] bytes of each body need no reservation: so small requests are served however many
//! large ones are being sent.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::api::error::ApiError;

/// Bytes of each body that do not count towards the total.
pub const OWN: usize = 8 << 10;

/// The limits of bodies.
#[derive(Debug)]
pub struct Intake {
    /// Maximum length of a body, in bytes.
    most: usize,
    /// Maximum time for a whole body.
    time: Duration,
    /// Maximum time in which nothing of a body arrives.
    pause: Duration,
    /// Kibibytes left for all bodies, beyond the [`OWN`] bytes of each.
    room: Arc<Semaphore>,
}

/// A received body.
#[derive(Debug)]
pub struct WholeBody {
    /// Its bytes.
    pub bytes: Vec<u8>,
    _room: Option<OwnedSemaphorePermit>,
}

impl Intake {
    /// Limits: `most` bytes for each body and `room` bytes for all; `time` for a whole body
    /// and `pause` between two pieces of it.
    pub fn new(most: usize, room: usize, time: Duration, pause: Duration) -> Self {
        Self {
            most,
            time,
            pause,
            room: Arc::new(Semaphore::new(room.div_ceil(1024))),
        }
    }

    /// Receives a body; `told` is its `Content-Length`, if it has one.
    ///
    /// # Errors
    /// When it is too long, too slow or broken off, or other bodies use all the memory.
    pub async fn take(&self, told: Option<u64>, mut body: Body) -> Result<WholeBody, ApiError> {
        if told.is_some_and(|told| told > self.most as u64) {
            return Err(ApiError::body_too_long(self.most));
        }
        let end = Instant::now() + self.time;
        let (mut bytes, mut room) = (Vec::new(), None);
        loop {
            let pause = end.min(Instant::now() + self.pause);
            let frame = match timeout_at(pause, body.frame()).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(None) => break,
                Ok(Some(Err(_))) => {
                    return Err(ApiError::invalid("the body ended early: send all of it"));
                }
                Err(_) => return Err(ApiError::body_too_slow()),
            };
            // Trailers are ignored.
            let Ok(piece) = frame.into_data() else {
                continue;
            };
            if piece.len() > self.most - bytes.len() {
                return Err(ApiError::body_too_long(self.most));
            }
            self.make_room(bytes.len() + piece.len(), &mut room)?;
            bytes.extend_from_slice(&piece);
        }
        Ok(WholeBody { bytes, _room: room })
    }

    /// Reserves memory for a body of which `len` bytes have arrived.
    fn make_room(
        &self,
        len: usize,
        room: &mut Option<OwnedSemaphorePermit>,
    ) -> Result<(), ApiError> {
        let needed = len.saturating_sub(OWN).div_ceil(1024);
        let held = room.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = needed.saturating_sub(held) as u32;
        if more == 0 {
            return Ok(());
        }
        let Ok(permit) = self.room.clone().try_acquire_many_owned(more) else {
            return Err(ApiError::busy(
                "too many long requests are being received: try again later",
                1,
            ));
        };
        match room {
            Some(room) => room.merge(permit),
            None => *room = Some(permit),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::body::Bytes;
    use futures_util::{StreamExt, stream};

    use super::*;

    fn intake(most: usize, room: usize) -> Intake {
        let time = Duration::from_secs(30);
        Intake::new(most, room, time, Duration::from_secs(5))
    }

    /// A body that sends pieces of these lengths and then never ends.
    fn stuck(pieces: &[usize]) -> Body {
        let pieces: Vec<usize> = pieces.to_vec();
        let piece = |len: usize| Ok::<_, Infallible>(Bytes::from(vec![b' '; len]));
        Body::from_stream(stream::iter(pieces).map(piece).chain(stream::pending()))
    }

    #[tokio::test(start_paused = true)]
    async fn room_is_for_what_has_arrived() {
        let intake = intake(64 << 10, 64 << 10);
        // Ten bodies are announced at full length but send one byte each.
        let slow = (0..10).map(|_| intake.take(Some(64 << 10), stuck(&[1])));
        let slow = futures_util::future::join_all(slow);
        let long = intake.take(None, Body::from(vec![b' '; 60 << 10]));
        let (slow, long) = tokio::join!(slow, long);
        assert_eq!(long.expect("it is taken").bytes.len(), 60 << 10);
        for slow in slow {
            assert_eq!(slow.expect_err("too slow").status.as_u16(), 408);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_of_a_body_needs_no_common_room() {
        let intake = intake(64 << 10, 16 << 10);
        let hogs = (0..2).map(|_| intake.take(None, stuck(&[OWN, 8 << 10])));
        let hogs = futures_util::future::join_all(hogs);
        let small = intake.take(None, Body::from(vec![b' '; OWN]));
        let large = intake.take(None, Body::from(vec![b' '; OWN + 1]));
        let (_, small, large) = tokio::join!(hogs, small, large);
        assert_eq!(small.expect("it is taken").bytes.len(), OWN);
        assert_eq!(large.expect_err("no room").status.as_u16(), 429);
        // The reservation ends with the body.
        let large = intake.take(None, Body::from(vec![b' '; OWN + (16 << 10)]));
        drop(large.await.expect("it is taken"));
        assert_eq!(intake.room.available_permits(), 16);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_has_a_length_and_a_time() {
        let intake = intake(100, 1 << 20);
        for (told, len, status) in [(None, 101, 413), (Some(101), 0, 413), (Some(1), 101, 413)] {
            let body = Body::from(vec![b' '; len]);
            let error = intake.take(told, body).await.expect_err("too long");
            assert_eq!(error.status.as_u16(), status, "{told:?} {len}");
        }
        // A byte every four seconds: each pause is short, but the whole takes too long.
        let drip = stream::repeat(()).then(|()| async {
            tokio::time::sleep(Duration::from_secs(4)).await;
            Ok::<_, Infallible>(Bytes::from_static(b" "))
        });
        let begun = Instant::now();
        let error = intake.take(None, Body::from_stream(drip)).await;
        assert_eq!(error.expect_err("too slow").status.as_u16(), 408);
        assert_eq!(begun.elapsed().as_secs(), 30);
    }
}
