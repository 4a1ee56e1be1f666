//! Rules that look at all servers, at rest and at any moment.

use super::client::State;
use super::plan::Plan;
use super::world::World;
use crate::model::{Check, Invariant, bare, broken};
use couplet::core::admin::Command;

/// Bytes of the longest thing that is ever said at once in this world, and more than that.
const STANZA_BYTES_MAX: usize = 8_000;

impl World {
    /// Charges add up, and no queue is above its bound.
    pub fn check_bounds(&self, server: usize) -> Check {
        let engine = &self.servers[server].engine;
        let domain = &self.plan.domains[server];
        if !engine.budget_is_sound() {
            return broken(
                Invariant::Bounded,
                format!("at {domain} the sum of all charges is not what the budget says"),
            );
        }
        let (held, most) = (engine.held_most_remote_bytes(), remote_bytes_max(&self.plan));
        if held > most {
            return broken(Invariant::Bounded, format!("{held} bytes are held at {domain} for one other server"));
        }
        Ok(())
    }

    /// Nothing is on its way any more, all servers reach each other and all clients are there.
    pub fn check_at_rest(&mut self) -> Check {
        for client in &self.clients {
            if client.state != State::Online {
                return broken(Invariant::EndsWell, format!("{} cannot log in", client.name()));
            }
        }
        self.check_messages()?;
        self.check_questions()
    }

    /// What a server has told its client to be safe has been read by its addressee, or the client has been told that it
    /// came back. Where a sender could be told so and has gone, it may have come back unseen; where all of the way has
    /// stream management and nothing is refused, it has been read.
    ///
    /// Between servers that count (XEP-0198) that holds whatever is cut, and whichever server crashes. By dialback
    /// alone there is no count: what the socket has taken when a connection is lost is gone, and so is what a client
    /// without stream management has been sent.
    fn check_messages(&self) -> Check {
        for (number, message) in self.model.messages.iter().enumerate().filter(|(_, m)| m.counted && m.read == 0) {
            let sender = &self.model.sessions[message.session];
            let Some(to) = self.server_of(&message.to) else { continue };
            let exists = self.clients.iter().any(|c| c.account == bare(&message.to));
            let from = self.clients[sender.client].server;
            // Then the error may be kept from its sender, too.
            let (one, other) = (bare(&message.to), &sender.account);
            let blocked = self.model.blocks.iter().any(|(by, of)| by == one && of == other || by == other && of == one);
            if message.errors > 0 || !exists || blocked {
                continue;
            }
            let may_return = !self.plan.strict;
            let uncounted =
                self.plan.managed_percent < 100 || from != to && self.plan.proof != super::plan::Proof::Certificates;
            if may_return && !sender.alive || uncounted {
                continue;
            }
            let text = format!("m{number} of {} to {} was counted and is nowhere", sender.jid, message.to);
            return broken(Invariant::NothingLost, text);
        }
        Ok(())
    }

    /// Each request has its answer: a result, an error of whoever was asked, or one that says that his server cannot be
    /// reached. A server that crashes has forgotten what it was asked. Nobody is told of an answer that cannot be sent,
    /// so that of another server is owed only where nothing is refused.
    fn check_questions(&self) -> Check {
        for (number, question) in self.model.questions.iter().enumerate().filter(|(_, q)| q.owed && q.answers == 0) {
            let sender = &self.model.sessions[question.session];
            if !sender.alive {
                continue;
            }
            let from = self.clients[sender.client].server;
            let lost = self
                .server_of(&question.to)
                .is_some_and(|to| self.model.troubled(to, question.step) || from != to && !self.plan.strict);
            if !lost && !self.model.troubled(from, question.step) {
                let text = format!("q{number} of {} to {} has no answer", sender.jid, question.to);
                return broken(Invariant::AnsweredOnce, text);
            }
        }
        Ok(())
    }

    pub fn check_nothing_held(&mut self, server: usize) -> Check {
        let status = self.status(server, Command::Status)?;
        let held = status.lines().find_map(|l| l.strip_prefix("held for peers: ")?.split(' ').next());
        let held = held.and_then(|held| held.parse::<usize>().ok());
        // What is remembered of addresses is bounded in another way.
        let remembered = self.servers[server].engine.remembered_bytes();
        match held {
            Some(held) if held == remembered => Ok(()),
            _ => broken(Invariant::Bounded, format!("{held:?} bytes are held for nobody at server {server}: {status}")),
        }
    }
}

/// What one connection with another server, or what waits for one, may hold: its queue, what the socket has not taken
/// and the stanza that was the last to go there, and one that is coming in, in a buffer that grows by doubling.
fn remote_bytes_max(plan: &Plan) -> usize {
    (plan.limits.s2s_queue_bytes_max + plan.limits.out_window_bytes) as usize + 4 * STANZA_BYTES_MAX
}
