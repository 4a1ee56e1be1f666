//! Message of the day: what the operator wants to say to everybody who comes online, once for each session.

use super::{Module, Xep};
use crate::core::Core;
use crate::core::flight::InFlight;
use crate::jid::Jid;
use crate::setting::section;
use crate::stanza::{Kind, MessageType, Stanza, StanzaError};
use crate::xml::ns;

section! {
    /// Message of the day.
    pub struct Config in "modules.motd" {
        /// What every client is told when it comes online, such as "Back at noon: a new disk."; empty says nothing.
        pub text: String = String::new(),
    }
}

/// The module.
pub struct Motd {
    config: Config,
}

impl Module for Motd {
    const XEPS: &'static [Xep] = &[];
    type Config = Config;

    fn new(config: Config) -> Self {
        Self { config }
    }

    /// Initial presence (RFC 6121 section 4.2): later ones and a resumption say nothing new.
    fn presence(&mut self, core: &mut Core, stanza: &mut Stanza) -> Result<(), StanzaError> {
        let text = self.config.text.trim();
        let (false, Some(from), None) = (text.is_empty(), &stanza.from, &stanza.to) else { return Ok(()) };
        let Some(session) = core.sessions.find(from) else { return Ok(()) };
        if core.sessions.get(session).is_some_and(|s| s.available.is_none()) {
            let host = Jid::parse(from.domain()).ok();
            let message =
                Stanza::build(Kind::Message(MessageType::Headline), |b| {
                b.leaf(ns::CLIENT, "body", text);
            });
            core.send(InFlight::passing(message.addressed(host, Some(from.clone()))).to_session(session));
        }
        Ok(())
    }
}
