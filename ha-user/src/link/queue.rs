//! What waits to be sent on one path: bounded, and never more than the latest of what only has a latest.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::message::Topic;

/// Messages that may wait.
const MESSAGES: usize = 64;
/// And their bytes.
const BYTES: usize = 1 << 20;

/// The queue of one connection. Nobody waits to put something into it.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    letters: VecDeque<(Option<Topic>, Arc<[u8]>)>,
    bytes: usize,
    closed: Option<String>,
}

impl Queue {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a letter. It replaces the one of the same topic; what does not fit otherwise makes the oldest give way.
    pub(super) fn push(&self, topic: Option<Topic>, letter: Arc<[u8]>) {
        let mut waiting = self.waiting();
        if waiting.closed.is_some() {
            return;
        }
        if topic.is_some() {
            let older = waiting.letters.iter().position(|(of, _)| *of == topic);
            if let Some((_, older)) = older.and_then(|index| waiting.letters.remove(index)) {
                waiting.bytes -= older.len();
            }
        }
        waiting.bytes += letter.len();
        waiting.letters.push_back((topic, letter));
        while waiting.letters.len() > MESSAGES || waiting.bytes > BYTES {
            let Some((_, oldest)) = waiting.letters.pop_front() else {
                break;
            };
            waiting.bytes -= oldest.len();
        }
        drop(waiting);
        self.changed.notify_one();
    }

    /// Ends the connection.
    pub(super) fn close(&self, why: &str) {
        self.waiting().closed.get_or_insert_with(|| why.to_owned());
        self.changed.notify_one();
    }

    /// Waits for the next letter; `Err`: why there will be none.
    pub(super) async fn next(&self) -> Result<Arc<[u8]>, String> {
        loop {
            {
                let mut waiting = self.waiting();
                if let Some(why) = &waiting.closed {
                    return Err(why.clone());
                }
                if let Some((_, letter)) = waiting.letters.pop_front() {
                    waiting.bytes -= letter.len();
                    return Ok(letter);
                }
            }
            self.changed.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(number: u8, length: usize) -> Arc<[u8]> {
        vec![number; length].into()
    }

    async fn drain(queue: &Queue) -> Vec<u8> {
        let mut numbers = Vec::new();
        while !queue.waiting().letters.is_empty() {
            numbers.push(queue.next().await.unwrap()[0]);
        }
        assert_eq!(queue.waiting().bytes, 0);
        numbers
    }

    #[tokio::test]
    async fn the_latest_of_a_topic_replaces_the_one_before() {
        let queue = Queue::default();
        let group = |name: &str| Some(Topic::Group(name.to_owned()));
        queue.push(Some(Topic::Report), letter(1, 9));
        queue.push(None, letter(2, 9));
        queue.push(group("a"), letter(3, 9));
        queue.push(group("b"), letter(4, 9));
        queue.push(Some(Topic::Report), letter(5, 5));
        queue.push(group("a"), letter(6, 9));
        queue.push(None, letter(7, 9));
        assert_eq!(drain(&queue).await, [2, 4, 5, 6, 7]);
    }

    #[tokio::test]
    async fn it_holds_so_many_and_no_more() {
        let queue = Queue::default();
        for number in 0..=u8::MAX {
            queue.push(None, letter(number, 1));
        }
        assert_eq!(drain(&queue).await, (192..=u8::MAX).collect::<Vec<u8>>());
        for number in 0..40 {
            queue.push(None, letter(number, 60_000));
        }
        assert!(queue.waiting().bytes <= BYTES);
        assert_eq!(drain(&queue).await, (23..40).collect::<Vec<u8>>());
    }

    #[tokio::test]
    async fn it_ends_with_a_reason() {
        let queue = Queue::default();
        queue.push(None, letter(1, 1));
        queue.close("enough");
        queue.close("too late");
        queue.push(None, letter(2, 1));
        assert_eq!(queue.next().await, Err("enough".to_owned()));
    }
}
