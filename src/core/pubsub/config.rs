//! Configuration of a node (XEP-0060 section 17.4.4), as record and as form.

use crate::stanza::form::{self, Values};
use crate::stanza::{Condition, StanzaError};
use crate::xml::{Builder, ns};

crate::record! {
    /// Who may subscribe and read (section 4.5).
    pub enum AccessModel {
        /// Everybody.
        Open = 0,
        /// Whoever may see the owner's presence.
        Presence = 1,
        /// Those of them that are in certain groups of the owner's roster.
        Roster = 2,
        /// Whoever has an affiliation that says so.
        Whitelist = 3,
        /// Subscribers alone read, and an owner allows each of them; not at accounts.
        Authorize = 4,
    }
    /// Who may publish beside those whose affiliation says so.
    pub enum PublishModel {
        /// Nobody.
        Publishers = 0,
        /// Subscribers.
        Subscribers = 1,
        /// Everybody.
        Open = 2,
    }
    /// When the last item is sent (section 17.4.4, `pubsub#send_last_published_item`).
    pub enum SendLast {
        /// Never.
        Never = 0,
        /// To a new subscriber.
        OnSub = 1,
        /// To a new subscriber, and to one that has come online.
        OnSubAndPresence = 2,
    }
    /// Configuration of a node.
    pub struct Config {
        /// Name for people.
        pub title: String,
        /// What the node is for.
        pub description: String,
        /// Namespace of the payload; says something, is not enforced.
        pub payload_type: String,
        /// Who may read.
        pub access: AccessModel,
        /// With [`AccessModel::Roster`]: groups of the roster.
        pub groups: Vec<String>,
        /// Who may publish.
        pub publish: PublishModel,
        /// Items are kept; otherwise they are only told.
        pub persist: bool,
        /// Items kept; [`MAX`] is as many as the server allows.
        pub max_items: u32,
        /// When the last item is sent.
        pub send_last: SendLast,
        /// Subscribers hear of a changed configuration.
        pub notify_config: bool,
        /// Subscribers hear when the node is deleted.
        pub notify_delete: bool,
        /// Subscribers hear when an item is deleted.
        pub notify_retract: bool,
        /// Notifications have the payload.
        pub deliver_payloads: bool,
        /// There are notifications at all.
        pub deliver_notifications: bool,
        /// Items name their publisher (`pubsub#itemreply` is `publisher`).
        pub show_publisher: bool,
        /// Notifications are of the type `headline`, otherwise `normal`.
        pub headline: bool,
    }
}

/// [`Config::max_items`] for `max`.
pub const MAX: u32 = u32::MAX;

/// Bytes of a text of the configuration.
const TEXT_BYTES_MAX: usize = 1024;
/// Groups that a node may name.
const GROUPS_MAX: usize = 32;

impl Default for Config {
    /// What XEP-0163 section 5 wants, and one item.
    fn default() -> Self {
        Self {
            title: String::new(),
            description: String::new(),
            payload_type: String::new(),
            access: AccessModel::Presence,
            groups: Vec::new(),
            publish: PublishModel::Publishers,
            persist: true,
            max_items: 1,
            send_last: SendLast::OnSubAndPresence,
            notify_config: true,
            notify_delete: true,
            notify_retract: true,
            deliver_payloads: true,
            deliver_notifications: true,
            show_publisher: false,
            headline: true,
        }
    }
}

impl AccessModel {
    /// The value of the field.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Presence => "presence",
            Self::Roster => "roster",
            Self::Whitelist => "whitelist",
            Self::Authorize => "authorize",
        }
    }
}

impl PublishModel {
    /// The value of the field.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Publishers => "publishers",
            Self::Subscribers => "subscribers",
            Self::Open => "open",
        }
    }
}

impl Config {
    /// What a private node for storage has (XEP-0223, XEP-0402 section 3.3).
    pub fn private() -> Self {
        Self { access: AccessModel::Whitelist, max_items: MAX, send_last: SendLast::Never, ..Self::default() }
    }

    /// What a node of a domain has (section 4.5 wants it open), and 20 items.
    pub fn generic() -> Self {
        Self { access: AccessModel::Open, max_items: 20, ..Self::default() }
    }

    /// The configuration with the fields of a form set.
    ///
    /// # Errors
    /// `not-acceptable` for a field or value that is not supported; with `unsupported-access-model` as section 8.1.3
    /// wants it. `bad-request` for a value that is none of its type.
    pub fn with(&self, fields: &[Values], items_max: u32) -> Result<Self, StanzaError> {
        let mut config = self.clone();
        for (var, values) in fields {
            let Some(name) = var.strip_prefix("pubsub#") else { return Err(foreign()) };
            config.set(name, values, items_max)?;
        }
        Ok(config)
    }

    fn set(&mut self, name: &str, values: &[String], items_max: u32) -> Result<(), StanzaError> {
        let single = || match values {
            [] => Ok(""),
            [value] if value.len() <= TEXT_BYTES_MAX => Ok(value.as_str()),
            _ => Err(Condition::BadRequest.because("A field of the form has too many values, or too long ones.")),
        };
        let flag = || form::boolean(values).ok_or(Condition::BadRequest.because("A boolean is 1, 0, true or false."));
        match name {
            "title" => self.title = single()?.to_string(),
            "description" => self.description = single()?.to_string(),
            "type" => self.payload_type = single()?.to_string(),
            "access_model" => {
                self.access = match single()? {
                    "open" => AccessModel::Open,
                    "presence" => AccessModel::Presence,
                    "roster" => AccessModel::Roster,
                    "whitelist" => AccessModel::Whitelist,
                    "authorize" => AccessModel::Authorize,
                    _ => {
                        let error = StanzaError::from(Condition::NotAcceptable);
                        return Err(error.with_application(ns::PUBSUB_ERRORS, "unsupported-access-model"));
                    }
                }
            }
            "roster_groups_allowed" => {
                if values.len() > GROUPS_MAX || values.iter().any(|v| v.len() > TEXT_BYTES_MAX) {
                    return Err(Condition::NotAcceptable.because("Too many groups, or too long names."));
                }
                self.groups = values.to_vec();
            }
            "publish_model" => {
                self.publish = match single()? {
                    "publishers" => PublishModel::Publishers,
                    "subscribers" => PublishModel::Subscribers,
                    "open" => PublishModel::Open,
                    _ => return Err(foreign()),
                }
            }
            "persist_items" => self.persist = flag()?,
            "max_items" => {
                self.max_items = match single()? {
                    "max" => MAX,
                    number => match number.parse() {
                        Ok(n) if n >= 1 && n <= items_max => n,
                        Ok(_) => return Err(Condition::NotAcceptable.because("max_items is out of bounds.")),
                        Err(_) => return Err(Condition::BadRequest.because("max_items is no number.")),
                    },
                }
            }
            "send_last_published_item" => {
                self.send_last = match single()? {
                    "never" => SendLast::Never,
                    "on_sub" => SendLast::OnSub,
                    "on_sub_and_presence" => SendLast::OnSubAndPresence,
                    _ => return Err(foreign()),
                }
            }
            "notify_config" => self.notify_config = flag()?,
            "notify_delete" => self.notify_delete = flag()?,
            "notify_retract" => self.notify_retract = flag()?,
            "deliver_payloads" => self.deliver_payloads = flag()?,
            "deliver_notifications" => self.deliver_notifications = flag()?,
            "itemreply" => {
                self.show_publisher = match single()? {
                    "publisher" => true,
                    "owner" | "none" => false,
                    _ => return Err(foreign()),
                }
            }
            "notification_type" => {
                self.headline = match single()? {
                    "headline" => true,
                    "normal" => false,
                    _ => return Err(foreign()),
                }
            }
            // There are no others here, and items stay until they make room.
            "node_type" if single()? == "leaf" => {}
            "item_expire" if single()? == "max" => {}
            // Whoever submits all registered fields may say of what is not done that he does not want it.
            "notify_sub" | "presence_based_delivery" | "purge_offline" | "tempsub" if !flag()? => {}
            "subscribe" if flag()? => {}
            _ => return Err(foreign()),
        }
        Ok(())
    }

    /// Adds the configuration as a form of type `form`, `result` or `submit` (section 8.2.1). Nodes of a domain have
    /// one access model more.
    pub fn build(&self, b: &mut Builder, kind: &str, of_domain: bool) {
        form::open(b, kind, ns::PUBSUB_NODE_CONFIG);
        self.build_fields(b, of_domain);
        b.close();
    }

    fn build_fields(&self, b: &mut Builder, of_domain: bool) {
        let mut put = |name: &str, kind: &str, label: &str, options: &[&str], values: &[&str]| {
            form::field(b, &format!("pubsub#{name}"), kind, label, options, values);
        };
        put("title", "text-single", "Title", &[], &[&self.title]);
        put("description", "text-single", "Description", &[], &[&self.description]);
        put("type", "text-single", "Namespace of the payload", &[], &[&self.payload_type]);
        let access = self.access.as_str();
        let models = ["open", "presence", "roster", "whitelist", "authorize"];
        let models = if of_domain { &models[..] } else { &models[..4] };
        put("access_model", "list-single", "Who may subscribe and read", models, &[access]);
        let groups: Vec<&str> = self.groups.iter().map(String::as_str).collect();
        put("roster_groups_allowed", "list-multi", "Roster groups that may read", &groups, &groups);
        let publish = self.publish.as_str();
        put("publish_model", "list-single", "Who may publish", &["publishers", "subscribers", "open"], &[publish]);
        put("persist_items", "boolean", "Keep items", &[], &[flag(self.persist)]);
        let max_items = if self.max_items == MAX { "max".to_string() } else { self.max_items.to_string() };
        put("max_items", "text-single", "Items kept", &[], &[&max_items]);
        let send_last = match self.send_last {
            SendLast::Never => "never",
            SendLast::OnSub => "on_sub",
            SendLast::OnSubAndPresence => "on_sub_and_presence",
        };
        let occasions = ["never", "on_sub", "on_sub_and_presence"];
        put("send_last_published_item", "list-single", "When the last item is sent", &occasions, &[send_last]);
        put("notify_config", "boolean", "Tell of a changed configuration", &[], &[flag(self.notify_config)]);
        put("notify_delete", "boolean", "Tell when the node is deleted", &[], &[flag(self.notify_delete)]);
        put("notify_retract", "boolean", "Tell when an item is deleted", &[], &[flag(self.notify_retract)]);
        put("deliver_payloads", "boolean", "Notifications with payload", &[], &[flag(self.deliver_payloads)]);
        put("deliver_notifications", "boolean", "Notifications", &[], &[flag(self.deliver_notifications)]);
        let itemreply = if self.show_publisher { "publisher" } else { "owner" };
        put("itemreply", "list-single", "Whom items name", &["owner", "publisher"], &[itemreply]);
        let message = if self.headline { "headline" } else { "normal" };
        put("notification_type", "list-single", "Type of notifications", &["normal", "headline"], &[message]);
    }
}

fn flag(value: bool) -> &'static str {
    if value { "1" } else { "0" }
}

fn foreign() -> StanzaError {
    Condition::NotAcceptable.because("The form has a field or a value that is not supported.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str, value: &str) -> Result<Config, Condition> {
        let fields = [(name.to_string(), vec![value.to_string()])];
        Config::default().with(&fields, 100).map_err(|e| e.condition)
    }

    #[test]
    fn what_a_form_shows_can_be_submitted_again() {
        let config = Config {
            access: AccessModel::Roster,
            groups: vec!["Friends".to_string()],
            publish: PublishModel::Open,
            send_last: SendLast::Never,
            max_items: MAX,
            persist: false,
            show_publisher: true,
            headline: false,
            title: "t".to_string(),
            ..Config::default()
        };
        let mut b = Builder::new("", "a");
        config.build(&mut b, "submit", true);
        let element = b.finish();
        let x = element.root().children().next().unwrap();
        let fields = form::read(x, ns::PUBSUB_NODE_CONFIG).unwrap();
        assert_eq!(Config::default().with(&fields, 100), Ok(config));
    }

    #[test]
    fn bad_values_are_refused() {
        assert_eq!(set("pubsub#max_items", "100").map(|c| c.max_items), Ok(100));
        assert_eq!(set("pubsub#max_items", "101").err(), Some(Condition::NotAcceptable));
        assert_eq!(set("pubsub#max_items", "0").err(), Some(Condition::NotAcceptable));
        assert_eq!(set("pubsub#max_items", "many").err(), Some(Condition::BadRequest));
        assert_eq!(set("pubsub#persist_items", "yes").err(), Some(Condition::BadRequest));
        assert_eq!(set("pubsub#access_model", "everybody").err(), Some(Condition::NotAcceptable));
        assert_eq!(set("pubsub#purge_offline", "0"), Ok(Config::default()));
        assert_eq!(set("pubsub#purge_offline", "1").err(), Some(Condition::NotAcceptable));
        assert_eq!(set("pubsub#subscribe", "0").err(), Some(Condition::NotAcceptable));
        assert_eq!(set("pubsub#unknown", "1").err(), Some(Condition::NotAcceptable));
        assert_eq!(set("persist_items", "1").err(), Some(Condition::NotAcceptable));
    }
}
