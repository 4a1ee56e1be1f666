//! Counters of what has happened since the start. They wrap; readers take differences.

macro_rules! counters {
    ($( $name:ident $doc:literal; )*) => {
        /// The counters.
        #[derive(Clone, Debug, Default)]
        pub struct Counters { $( #[doc = $doc] pub $name: u32, )* }

        impl Counters {
            /// Name, value and meaning of each, for `couplet status`.
            pub fn rows(&self) -> Vec<(&'static str, u32, &'static str)> {
                vec![ $( (stringify!($name), self.$name, $doc), )* ]
            }
        }
    };
}

counters! {
    connections "Connections accepted.";
    logins "Successful logins.";
    logins_failed "Logins that failed.";
    turned_away "Connections that limits did not let in.";
    messages "Messages routed.";
    presences "Presence stanzas routed.";
    iqs "IQ stanzas routed.";
    bounced "Stanzas returned to their sender with an error.";
    dropped "Stanzas dropped as the specifications ask.";
    stream_errors "Streams closed with an error.";
    shed "Connections closed because memory was short.";
    commits_failed "Writes that storage refused.";
    panics "Inputs whose handling failed by a bug of ours.";
}
