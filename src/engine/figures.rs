//! Figures for those who watch the server.

use super::Engine;
use crate::budget::{Kind as Held, State};
use crate::metrics::{AllLeft, Figure, Kind};

impl Engine {
    /// Stanzas that have left, for the shell to count when their sockets have got them.
    pub fn left(&mut self) -> &mut AllLeft {
        &mut self.left
    }

    /// What can be known of the engine at present, in the order in which it is shown.
    pub fn figures(&self) -> Vec<Figure> {
        let counters = self.core.counters.rows().into_iter();
        let mut all: Vec<Figure> =
            counters.map(|(name, value, help)| Figure::counter(name, help, value.into())).collect();
        let gauge = |name, help, value: usize| Figure::one(Kind::Gauge, name, help, value as u64);
        let (out, incoming, waiting) = self.s2s_counts();
        let limits = &self.core.settings.limits;
        all.extend([
            gauge("clients", "Connections of clients, WebSocket and BOSH among them.", self.conns.len()),
            gauge("clients_max", "limits.connections_max.", limits.connections_max as usize),
            gauge("http_connections", "Connections of HTTP that are no client's.", self.guests.len()),
            gauge("sessions", "Bound resources, those that wait to be resumed among them.", self.core.sessions.len()),
            gauge("sessions_parked", "Sessions that wait to be resumed.", self.parked()),
            gauge("accounts_online", "Accounts with a session.", self.core.sessions.accounts_len()),
            Figure {
                samples: vec![
                    ("direction=\"out\"".to_owned(), out as u64),
                    ("direction=\"in\"".to_owned(), incoming as u64),
                ],
                ..gauge("s2s_streams", "Streams with other servers.", 0)
            },
            gauge("s2s_waiting", "Stanzas that wait for another server.", waiting),
            gauge("hashes_waiting", "Passwords that wait for the hashing thread.", self.hashing.len()),
            gauge("promises_waiting", "Stanzas whose effect waits for the disk.", self.unproven.len()),
            gauge("storage_pending_bytes", "Writes on their way to the disk.", self.core.view.pending_bytes()),
            gauge("storage_full", "1 when the store has no room.", usize::from(self.full_ms.is_some())),
        ]);
        let budget = &self.budget;
        all.extend([
            gauge("memory_bytes", "What the process weighs, by account or measurement.", budget.weight_bytes()),
            gauge("memory_max_bytes", "The ceiling, memory.max.", budget.max_bytes()),
            Figure {
                samples: [State::Normal, State::Warning, State::Shedding]
                    .map(|state| (format!("state=\"{}\"", state.name()), u64::from(budget.state() == state)))
                    .into(),
                ..gauge("memory_state", "How close to the ceiling the server is: 1 for the state that it is in.", 0)
            },
            Figure {
                samples: Held::ALL
                    .map(|kind| (format!("kind=\"{}\"", kind.name()), budget.used_by(kind) as u64))
                    .into(),
                ..gauge("memory_held_bytes", "What is held for peers, by what it is.", 0)
            },
        ]);
        all.push(gauge("files_bytes", "What users' files take on the disk.", self.core.web.files_bytes as usize));
        let modules = self.modules.held_bytes_each();
        all.push(Figure {
            samples: modules.into_iter().map(|(name, bytes)| (format!("module=\"{name}\""), bytes as u64)).collect(),
            ..gauge("module_held_bytes", "What modules hold.", 0)
        });
        all.extend(
            budget.rss_bytes().map(|bytes| gauge("memory_rss_bytes", "Pages in memory, when last weighed.", bytes)),
        );
        all
    }
}
