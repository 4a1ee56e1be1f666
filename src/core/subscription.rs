//! Presence subscriptions as a pure table (RFC 6121 section 3 and appendix A).

use crate::stanza::PresenceType;

/// State of one contact in one account's roster. Appendix A's nine states are the first four flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Subscription {
    /// The account sees the contact's presence.
    pub to: bool,
    /// The contact sees the account's presence.
    pub from: bool,
    /// The account has asked and waits ("pending out").
    pub ask: bool,
    /// The contact has asked and waits ("pending in").
    pub pending_in: bool,
    /// The contact's next request is granted at once (section 3.4).
    pub approved: bool,
}

/// What a stanza from the account to the contact does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outbound {
    /// The state afterwards.
    pub next: Subscription,
    /// Whether the stanza goes on to the contact.
    pub route: bool,
}

/// What a stanza from the contact to the account does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inbound {
    /// The state afterwards.
    pub next: Subscription,
    /// Whether the account's clients see the stanza.
    pub deliver: bool,
    /// What the server answers on the account's behalf.
    pub reply: Option<PresenceType>,
}

impl Subscription {
    /// `subscription` attribute of the roster item (section 2.1.2.5).
    pub fn as_str(self) -> &'static str {
        match (self.to, self.from) {
            (false, false) => "none",
            (true, false) => "to",
            (false, true) => "from",
            (true, true) => "both",
        }
    }

    /// A roster shows the contact only when something more than its request is known (section 3.1.3).
    pub fn is_trace(self) -> bool {
        !self.to && !self.from && !self.ask && !self.approved
    }

    /// The account sends `kind` to the contact; appendix A.2, pre-approval section 3.4.2.
    pub fn outbound(self, kind: PresenceType) -> Outbound {
        let mut next = self;
        let route = match kind {
            PresenceType::Subscribe => {
                next.ask = !self.to;
                true
            }
            PresenceType::Unsubscribe => {
                (next.to, next.ask) = (false, false);
                true
            }
            PresenceType::Subscribed if self.pending_in => {
                (next.from, next.pending_in) = (true, false);
                true
            }
            PresenceType::Subscribed => {
                // Granted beforehand; the contact hears of it when it asks.
                next.approved = self.approved || !self.from;
                false
            }
            PresenceType::Unsubscribed => {
                (next.from, next.pending_in, next.approved) = (false, false, false);
                self.from || self.pending_in
            }
            PresenceType::Available | PresenceType::Unavailable | PresenceType::Probe | PresenceType::Error => false,
        };
        Outbound { next, route }
    }

    /// The contact sends `kind` to the account; appendix A.3.
    pub fn inbound(self, kind: PresenceType) -> Inbound {
        let mut next = self;
        let mut reply = None;
        let deliver = match kind {
            PresenceType::Subscribe if self.from => {
                reply = Some(PresenceType::Subscribed);
                false
            }
            PresenceType::Subscribe if self.approved => {
                (next.from, next.pending_in, next.approved) = (true, false, true);
                reply = Some(PresenceType::Subscribed);
                false
            }
            PresenceType::Subscribe => {
                next.pending_in = true;
                !self.pending_in
            }
            PresenceType::Unsubscribe => {
                (next.from, next.pending_in) = (false, false);
                self.from || self.pending_in
            }
            PresenceType::Subscribed => {
                let granted = self.ask && !self.to;
                (next.to, next.ask) = (self.to || granted, false);
                granted
            }
            PresenceType::Unsubscribed => {
                (next.to, next.ask) = (false, false);
                self.to || self.ask
            }
            PresenceType::Available | PresenceType::Unavailable | PresenceType::Probe | PresenceType::Error => false,
        };
        Inbound { next, deliver, reply }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A state as appendix A names it: `none`, `to`, `from`, `both`, with `+out`, `+in`, `+ok` (pre-approved).
    fn state(text: &str) -> Subscription {
        let mut parts = text.split('+');
        let base = parts.next().unwrap();
        let mut s = Subscription {
            to: matches!(base, "to" | "both"),
            from: matches!(base, "from" | "both"),
            ..Subscription::default()
        };
        for flag in parts {
            match flag {
                "out" => s.ask = true,
                "in" => s.pending_in = true,
                "ok" => s.approved = true,
                other => panic!("{other}"),
            }
        }
        s
    }

    /// Tables A.2.1 to A.2.4: state, then for each of the four stanzas whether it is routed and the new state.
    const OUTBOUND: [[&str; 5]; 9] = [
        // state, subscribe, unsubscribe, subscribed, unsubscribed
        ["none", "yes none+out", "yes none", "no none+ok", "no none"],
        ["none+out", "yes none+out", "yes none", "no none+out+ok", "no none+out"],
        ["none+in", "yes none+out+in", "yes none+in", "yes from", "yes none"],
        ["none+out+in", "yes none+out+in", "yes none+in", "yes from+out", "yes none+out"],
        ["to", "yes to", "yes none", "no to+ok", "no to"],
        ["to+in", "yes to+in", "yes none+in", "yes both", "yes to"],
        ["from", "yes from+out", "yes from", "no from", "yes none"],
        ["from+out", "yes from+out", "yes from", "no from+out", "yes none+out"],
        ["both", "yes both", "yes from", "no both", "yes to"],
    ];

    /// Tables A.3.1 to A.3.4 in the same form.
    const INBOUND: [[&str; 5]; 9] = [
        ["none", "yes none+in", "no none", "no none", "no none"],
        ["none+out", "yes none+out+in", "no none+out", "yes to", "yes none"],
        ["none+in", "no none+in", "yes none", "no none+in", "no none+in"],
        ["none+out+in", "no none+out+in", "yes none+out", "yes to+in", "yes none+in"],
        ["to", "yes to+in", "no to", "no to", "yes none"],
        ["to+in", "no to+in", "yes to", "no to+in", "yes none+in"],
        ["from", "no from", "yes none", "no from", "no from"],
        ["from+out", "no from+out", "yes none+out", "yes both", "yes from"],
        ["both", "no both", "yes to", "no both", "yes from"],
    ];

    const KINDS: [PresenceType; 4] =
        [PresenceType::Subscribe, PresenceType::Unsubscribe, PresenceType::Subscribed, PresenceType::Unsubscribed];

    fn expected(text: &str) -> (bool, Subscription) {
        let (pass, next) = text.split_once(' ').unwrap();
        (pass == "yes", state(next))
    }

    #[test]
    fn outbound_follows_appendix_a_2() {
        for row in OUTBOUND {
            for (kind, cell) in KINDS.into_iter().zip(&row[1..]) {
                let got = state(row[0]).outbound(kind);
                assert_eq!((got.route, got.next), expected(cell), "{} {kind:?}", row[0]);
            }
        }
    }

    #[test]
    fn inbound_follows_appendix_a_3() {
        for row in INBOUND {
            for (kind, cell) in KINDS.into_iter().zip(&row[1..]) {
                let got = state(row[0]).inbound(kind);
                assert_eq!((got.deliver, got.next), expected(cell), "{} {kind:?}", row[0]);
                let granted = kind == PresenceType::Subscribe && state(row[0]).from;
                assert_eq!(got.reply, granted.then_some(PresenceType::Subscribed), "{} {kind:?}", row[0]);
            }
        }
    }

    #[test]
    fn a_request_granted_beforehand_is_answered_and_not_shown() {
        let got = state("to+ok").inbound(PresenceType::Subscribe);
        assert_eq!((got.deliver, got.reply), (false, Some(PresenceType::Subscribed)));
        assert!(got.next.from && got.next.to);
        assert!(!state("none+ok").outbound(PresenceType::Unsubscribed).next.approved);
    }
}
