//! What operators ask the shell, and the answers.

use smol::channel::Sender;

use super::Shell;
use crate::clock::Now;
use crate::core::admin::{Command, Reply};
use crate::core::io::Input;
use crate::net::conn::{Conn, Stage};
use crate::storage::{Stats, StoreError};

impl Shell {
    /// The store was made smaller, because somebody asked for it or because it was time.
    pub(super) fn compacted(&mut self, result: &Result<Stats, StoreError>) {
        let reply = match result {
            Ok(stats) => Reply::ok(stats.to_string()),
            Err(error) => Reply::failed(error.to_string()),
        };
        match result {
            Ok(_) => log::info!("the store was made smaller: {}", reply.text),
            Err(_) => log::error!("the store was not made smaller: {}", reply.text),
        }
        for waiting in self.compacting.drain(..) {
            let _ = waiting.try_send(reply.clone());
        }
    }

    /// Answers come in the order of the questions.
    pub(super) fn flushed(&mut self, done: bool) {
        let reply = match done {
            true => Reply::ok("all that was stored is on the disk"),
            false => Reply::failed("not all that was stored is on the disk; the log says why"),
        };
        if let Some(waiting) = self.flushing.pop_front() {
            let _ = waiting.try_send(reply);
        }
    }

    pub(super) fn ask(&mut self, command: Command, reply: Option<Sender<Reply>>, now: Now) {
        self.last_asked = self.last_asked.wrapping_add(1);
        self.asked.push((self.last_asked, reply));
        self.engine.handle(now, Input::Admin { id: self.last_asked, command });
    }

    pub(super) fn answer(&mut self, id: u32, reply: Reply) {
        let at = self.asked.iter().position(|(asked, _)| *asked == id);
        match at.map(|at| self.asked.swap_remove(at).1) {
            Some(Some(waiting)) => {
                let _ = waiting.try_send(reply);
            }
            Some(None) => reply.text.lines().for_each(|line| log::info!("state: {line}")),
            None => {}
        }
    }

    pub(super) fn dump(&mut self, now: Now) {
        let count = |which: fn(&Conn) -> bool| self.conns.values().filter(|conn| which(conn)).count();
        log::info!(
            "state: {} connections ({} in a TLS handshake, {} closing, {} paused), {} being made, {} bytes wait to be \
             written",
            self.conns.len(),
            count(Conn::is_handshaking),
            count(|conn| conn.stage != Stage::Live),
            count(|conn| conn.paused),
            self.dials.len(),
            self.conns.values().map(|conn| conn.waiting_bytes()).sum::<usize>(),
        );
        self.ask(Command::Status, None, now);
    }
}
